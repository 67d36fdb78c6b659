"""Requests that are asked again until they are answered, as a program does that must not lose anything.

Invariant: no answer, a 5xx and a broken connection mean "again, the same"; everything else is an answer.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from ops.prove.alarm import ViolationError

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Mapping

_TIMEOUT = aiohttp.ClientTimeout(total=8.0)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_FAILED = 500
PATIENCE_S = 60.0  # without any answer, once nothing is broken any more


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, after how many tries."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    tries: int

    @property
    def json(self) -> Any:  # noqa: ANN401  # JSON is anything
        """The decoded body."""
        return orjson.loads(self.body)

    def expect(self, *statuses: int, what: str) -> Answer:
        """Return the answer. Raises `ViolationError` where its status is none of these."""
        if self.status not in statuses:
            msg = f"{what} was answered {self.status}: {self.body[:300].decode(errors='replace')}"
            raise ViolationError(msg)
        return self


class Caller:
    """Calls one API. A breakage may begin at any time: patience is counted from `mended()`."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, generator: random.Random) -> None:
        self._http = http
        self._base_url = base_url
        self._generator = generator
        self._mended_at: float | None = None

    def mended(self) -> None:
        """Begin to expect answers."""
        self._mended_at = time.monotonic()

    async def once(
        self, method: str, path: str, *, statuses: Counter[str], headers: dict[str, str], body: object = None
    ) -> Answer | None:
        """Ask once; None where there was no answer."""
        data = None if body is None else orjson.dumps(body)
        asked = {"Content-Type": "application/json", **headers}
        try:
            async with self._http.request(
                method, self._base_url + path, data=data, headers=asked, timeout=_TIMEOUT
            ) as response:
                answer = Answer(response.status, await response.read(), response.headers, 1)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            statuses["timeout" if isinstance(error, TimeoutError) else "no connection"] += 1
            return None
        statuses[str(answer.status)] += 1
        return answer if answer.status < _FAILED else None

    async def until_answered(
        self, method: str, path: str, *, statuses: Counter[str], headers: dict[str, str], body: object = None
    ) -> Answer:
        """Ask until there is an answer. Raises `ViolationError` where there is none long after all was mended."""
        pause_s, tries = _FIRST_PAUSE_S, 0
        began = time.monotonic()
        while True:
            tries += 1
            answer = await self.once(method, path, statuses=statuses, headers=headers, body=body)
            if answer is not None:
                return Answer(answer.status, answer.body, answer.headers, tries)
            if self._mended_at is not None and time.monotonic() > max(began, self._mended_at) + PATIENCE_S:
                msg = f"{method} {path} got no answer within {PATIENCE_S:.0f} s of everything being mended"
                raise ViolationError(msg)
            await asyncio.sleep(pause_s * self._generator.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
