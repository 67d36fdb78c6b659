"""Pushes that nobody waits for: they leave in the order in which they came, and what came meanwhile leaves together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models import telemetry
from models.background import end
from models.outage import Outage
from models.pages import MAX_PAGE_BYTES
from models.push import PRESENCE, Publisher, Push

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger(__name__)

_BUDGET_S = 2.0
_MOST_WAITING = 10_000  # past it Redis is away or hopelessly slow, and nodes get everything from Postgres


class PushQueue:
    """Publishes in the background. What Redis does not take is dropped: the socket nodes find out by themselves."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._publisher = Publisher(client)
        self._waiting: list[Push] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outage = Outage(log, "pushes fail; the socket nodes find out from Postgres")

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="push queue")

    async def stop(self) -> None:
        """Publish what waits, within the budget, and stop."""
        if self._task is not None:
            await end([self._task])
        await self._publish()

    def put(self, pushes: Iterable[Push]) -> None:
        """Publish soon. Returns at once and never fails."""
        self._waiting += pushes
        if len(self._waiting) > _MOST_WAITING:
            telemetry.push_failures.inc()
            self._waiting.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._publish()

    async def _publish(self) -> None:
        pushes, self._waiting = joined(self._waiting), []
        try:
            async with asyncio.timeout(_BUDGET_S):
                await self._publisher.publish(pushes)
        except (redis.RedisError, OSError, TimeoutError) as error:
            telemetry.push_failures.inc()
            self._outage.goes_on(error)
        else:
            self._outage.is_over()


def joined(pushes: Iterable[Push]) -> list[Push]:
    """Put stretches of one room that follow each other together, up to a page, and drop what says the same again. Pure.

    For what a `PushQueue` publishes: those of inboxes, which dispatchers publish, are whole packets.
    """
    open_ends: dict[str, _Stretch] = {}
    done: list[_Stretch] = []
    for push in pushes:
        stretch = open_ends.get(push.key)
        if stretch and push.priority == PRESENCE:
            continue  # it was told to look already
        if stretch and stretch.takes(push):
            stretch.add(push)
        else:
            open_ends[push.key] = stretch = _Stretch(push)
            done.append(stretch)
    return [stretch.as_one() for stretch in done]


class _Stretch:
    """Pushes of one room that follow each other."""

    def __init__(self, first: Push) -> None:
        self._pushes = [first]
        self._size = len(first.packet)

    def takes(self, push: Push) -> bool:
        return push.first == self._pushes[-1].last + 1 and self._size + len(push.packet) <= MAX_PAGE_BYTES

    def add(self, push: Push) -> None:
        self._pushes.append(push)
        self._size += len(push.packet)

    def as_one(self) -> Push:
        first, last = self._pushes[0], self._pushes[-1]
        if first is last:
            return first
        packet = b",".join(push.packet for push in self._pushes)
        return Push(first.key, first.first, last.last, packet, first.priority, first.accepted_at)
