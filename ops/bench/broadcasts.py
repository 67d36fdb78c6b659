"""The sending side of a room: posts its numbered events, on schedule, or each when every member has the one before."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

import aiohttp
import orjson

from ops.bench.posting import REQUEST_TIMEOUT_S, on_schedule

if TYPE_CHECKING:
    from ops.bench.members import Members

_ACCEPTED = 202
_PATIENCE_S = 10.0


class Broadcaster:
    """Posts to one room and tells its books. A context manager: it owns the HTTP connections."""

    def __init__(self, members: Members, connections: int) -> None:
        self.statuses: Counter[str] = Counter()
        self._endpoint = members.endpoint
        self._url = members.broadcasting.url(members.room)
        self._attendance = members.attendance
        self._attendance.on_everywhere = self._note_everywhere
        self._everywhere: dict[int, asyncio.Event] = {}  # of events that somebody waits for
        self._connections = connections
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            headers={"Content-Type": "application/json", **self._endpoint.headers},
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def post_on_schedule(self, numbers: range, per_s: float) -> None:
        """Post so many per second, whatever becomes of them, and wait for the answers."""
        async with asyncio.TaskGroup() as requests:
            async for nth in on_schedule(len(numbers), per_s):
                requests.create_task(self._post(numbers[nth]))

    async def post_when_everywhere(self, numbers: range, posters: int) -> None:
        """Let each poster post its next event when every member has its last one; all end where one never does."""
        left = iter(numbers)
        given_up = False

        async def poster() -> None:
            nonlocal given_up
            for number in left:
                everywhere = self._everywhere[number] = asyncio.Event()
                if await self._post(number):
                    try:
                        await asyncio.wait_for(everywhere.wait(), _PATIENCE_S)
                    except TimeoutError:
                        given_up = True
                del self._everywhere[number]
                if given_up:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(posters):
                group.create_task(poster())

    def _note_everywhere(self, number: int) -> None:
        if (event := self._everywhere.get(number)) is not None:
            event.set()

    async def _post(self, number: int) -> bool:
        """Post one event and return whether it was accepted."""
        data = {"number": number, "order_id": 42, "status": "shipped", "note": "Your order is on its way."}
        body = orjson.dumps({"event": "order.updated", "data": data})
        self._attendance.sent(number, time.perf_counter())
        try:
            async with self._http.post(self._url, data=body) as response:
                answer = await response.read()
                status = str(response.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            answer, status = repr(error).encode(), "no answer"
        self.statuses[status] += 1
        if status == str(_ACCEPTED):
            return True
        self._attendance.refused(number)
        if self.statuses[status] == 1:
            sys.stderr.write(f"{self._endpoint.label} answered {status}: {answer[:300].decode(errors='replace')}\n")
        return False
