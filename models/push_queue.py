"""Pushes that nobody waits for: they leave in the order in which they came, and what came meanwhile leaves together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models import telemetry
from models.background import end
from models.push import PRESENCE, Publisher, Push

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger(__name__)

_BUDGET_S = 2.0
_MOST_WAITING = 10_000  # past it Redis is away or hopelessly slow, and nodes get everything from Postgres


class PushQueue:
    """Publishes in the background. What Redis does not take is dropped: the socket nodes repair it from Postgres."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._publisher = Publisher(client)
        self._waiting: list[Push] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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
            log.warning("push failed; the socket nodes will repair it", error=str(error) or type(error).__name__)


def joined(pushes: Iterable[Push]) -> list[Push]:
    """Put stretches of one room that follow each other together, and drop what says the same again. Pure."""
    open_ends: dict[str, list[Push]] = {}
    done: list[list[Push]] = []
    for push in pushes:
        stretch = open_ends.get(push.key)
        if stretch and push.priority == PRESENCE:
            continue  # it was told to look already
        if stretch and stretch[-1].last + 1 == push.first:
            stretch.append(push)
        else:
            open_ends[push.key] = stretch = [push]
            done.append(stretch)
    return [_as_one(stretch) for stretch in done]


def _as_one(stretch: list[Push]) -> Push:
    first, last = stretch[0], stretch[-1]
    if first is last:
        return first
    packet = b",".join(push.packet for push in stretch)
    return Push(first.key, first.first, last.last, packet, first.priority, first.accepted_at)
