"""What is read regularly: whoever asks first waits, nothing that is new is missed, and an outage ends by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from models import polling
from models.errors import UnavailableError
from models.outage import Outage
from models.polling import Polled
from tests.socket_server.conftest import eventually

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock(Polled):
    """Reads the time of a Postgres that may be away."""

    def __init__(self) -> None:
        super().__init__(Outage(structlog.get_logger(), "postgres is away"))
        self.asked: list[datetime | None] = []
        self.away = False

    async def _read_since(self, since: datetime | None) -> datetime:
        self.asked.append(since)
        if self.away:
            raise UnavailableError
        return NOW

    async def time(self) -> datetime | None:
        await self._until_read()
        return self._read_at


async def test_what_was_new_a_moment_ago_is_read_once_more() -> None:
    clock = Clock()
    await clock.read()
    await clock.read()
    assert clock.asked == [None, NOW - timedelta(seconds=30)]


async def test_whoever_asks_first_waits_for_the_first_reading_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    asking = asyncio.create_task(clock.time())
    await asyncio.sleep(0)
    assert not asking.done()
    await clock.read()
    assert await asking == NOW
    monkeypatch.setattr(polling, "FIRST_S", 0.01)
    with pytest.raises(UnavailableError):
        await Clock().time()


async def test_it_goes_on_reading_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "INTERVAL_S", 0)
    clock = Clock()
    clock.away = True
    reading = asyncio.create_task(clock.read_regularly())
    await eventually(lambda: len(clock.asked) > 2)
    clock.away = False
    assert await clock.time() == NOW
    reading.cancel()
