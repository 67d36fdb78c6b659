"""Tasks that run in the background: how they are begun, so that nothing gets lost, and how they are ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

log = structlog.get_logger(__name__)

_ASK_AGAIN_S = 0.2


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and return when each is done, whatever it ended with.

    One request is not always enough: in Python 3.11 `asyncio.wait_for`, which Redis' client sends with, loses a
    cancellation that arrives just as what it waits for is done (python/cpython#86296).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=_ASK_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # whoever started it has reported it; unread, it would be reported again


class Background:
    """Tasks that nobody waits for. What one of them dies of is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task in the background failed", task=repr(task.get_coro()), exc_info=error)

    async def settle(self) -> None:
        """Return when everything is done that was begun."""
        while self._tasks:
            await asyncio.wait(self._tasks)
