"""The sending side: posts one stream of numbered notifications, in portions, at a pace."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import orjson

from ops.bench.fill import TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ops.bench.recorder import Recorder
    from ops.bench.scenarios import Scenario
    from ops.bench.sockets import Crowd

REQUEST_TIMEOUT_S = 30.0
_ACCEPTED = 202


async def on_schedule(count: int, per_s: float) -> AsyncIterator[int]:
    """Yield 0, 1, … at their times, whatever became of those before: late ones at once, one after the other."""
    started = time.perf_counter()
    for number in range(count):
        early_s = started + number / per_s - time.perf_counter()
        if early_s > 0:
            await asyncio.sleep(early_s)
        yield number


class Poster:
    """Posts one scenario's notifications and tells its recorder. A context manager: it owns the HTTP connections."""

    def __init__(self, crowd: Crowd, scenario: Scenario, recorder: Recorder, *, stream: str) -> None:
        self.statuses: Counter[str] = Counter()
        self._crowd = crowd
        self._endpoint = crowd.endpoint
        self._scenario = scenario
        self._recorder = recorder
        self._stream = stream
        self._url = self._endpoint.single_url if scenario.per_request == 1 else self._endpoint.bulk_url
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._scenario.in_flight),
            headers={"Content-Type": "application/json", **self._endpoint.headers},
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def post_all(self, go_on: Callable[[], bool]) -> None:
        """Post everything, or until `go_on` says no, and wait for the answers."""
        count, size = self._scenario.count, self._scenario.per_request
        portions = [range(first, min(first + size, count)) for first in range(0, count, size)]
        if self._scenario.rate is None:
            await self._closed_loop(portions, go_on)
        else:
            await self._open_loop(portions, self._scenario.rate / size, go_on)

    async def _closed_loop(self, portions: Sequence[range], go_on: Callable[[], bool]) -> None:
        left = iter(portions)

        async def sender() -> None:
            for portion in left:
                if not go_on():
                    return
                await self._post(portion)

        async with asyncio.TaskGroup() as senders:
            for _ in range(self._scenario.in_flight):
                senders.create_task(sender())

    async def _open_loop(self, portions: Sequence[range], per_s: float, go_on: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as requests:
            async for number in on_schedule(len(portions), per_s):
                if not go_on():
                    return
                requests.create_task(self._post(portions[number]))

    async def _post(self, numbers: range) -> None:
        items = [self._notification(number) for number in numbers]
        body = orjson.dumps(items[0] if self._scenario.per_request == 1 else {"notifications": items})
        self._recorder.sent(numbers, time.perf_counter())
        try:
            async with self._http.post(self._url, data=body) as response:
                answer = await response.read()
                status = str(response.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            answer, status = repr(error).encode(), "no answer"
        self.statuses[status] += 1
        if status != str(_ACCEPTED):
            self._recorder.refused(numbers)
        elif self._scenario.per_request > 1:
            rejected = [each for each in orjson.loads(answer).get("results", ()) if each["status"] == "rejected"]
            self._recorder.refused(numbers[each["index"]] for each in rejected)
            answer, status = orjson.dumps(rejected[:1]), "rejected" if rejected else status
            self.statuses.update(["rejected"] if rejected else [])
        if status != str(_ACCEPTED) and self.statuses[status] == 1:
            sys.stderr.write(f"{self._endpoint.label} answered {status}: {answer[:300].decode(errors='replace')}\n")

    def _notification(self, number: int) -> dict[str, Any]:
        text = {"title": "Order shipped", "body": "Your order is on its way."} if self._scenario.text else {}
        return {
            **self._endpoint.recipient(self._crowd.user(number)),
            "type": TYPE,
            "priority": self._scenario.priority,
            **text,
            "data": {"stream": self._stream, "number": number},
        }
