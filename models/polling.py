"""What a process reads from Postgres twice a second, so that a change holds everywhere within one, whatever is lost.

Only what is new is read, by the clock of Postgres, and what was new a moment ago once more: a change is dated before
its commit can be seen. Until something was read, whoever asks waits.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING

from models.errors import UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from models.outage import Outage

INTERVAL_S = 0.4
_OVERLAP = timedelta(seconds=30)
FIRST_S = 3.0  # how long somebody waits for a process that has just started


class Polled(ABC):
    """Base of what is read like this. The `outage` is that of Postgres."""

    def __init__(self, outage: Outage) -> None:
        self._read_at: datetime | None = None  # by the clock of Postgres; None: nothing was read yet
        self._first = asyncio.Event()
        self._outage = outage

    @abstractmethod
    async def _read_since(self, since: datetime | None) -> datetime:
        """Read what is new since then, or all of it, and return when that was. Raises `UnavailableError`."""

    async def read(self) -> None:
        """Read what is new. Raises `UnavailableError`."""
        self._read_at = await self._read_since(self._read_at - _OVERLAP if self._read_at else None)
        self._first.set()

    async def read_regularly(self) -> None:
        """Read for ever."""
        while True:
            try:
                await self.read()
                self._outage.is_over()
            except UnavailableError as error:
                self._outage.goes_on(error)
            await asyncio.sleep(INTERVAL_S)

    async def _until_read(self) -> None:
        if not self._first.is_set():
            try:
                async with asyncio.timeout(FIRST_S):
                    await self._first.wait()
            except TimeoutError as error:
                raise UnavailableError from error
