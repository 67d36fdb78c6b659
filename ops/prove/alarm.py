"""A promise that was broken, and how everyone who sees one ends the run.

Invariant: the first violation counts; whatever else goes wrong while everything stops is not reported in its place.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

Result = TypeVar("Result")
_SHOWN = 5


class ViolationError(Exception):
    """A promise was broken; the text says which one, and where."""


def some(things: Iterable[object]) -> str:
    """Name the first few of many things, in order."""
    ordered: Sequence[object] = sorted(things, key=str)
    if not ordered:
        return "none"
    rest = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(str(thing) for thing in ordered[:_SHOWN]) + rest


def none_of(wrong: Iterable[str], what: str) -> None:
    """Raise `ViolationError` where there is any of what is wrong."""
    found = sorted(wrong)
    if found:
        msg = f"{len(found)} {what}: {some(found)}"
        raise ViolationError(msg)


class Alarm:
    """Rung by whoever sees a violation, in callbacks and tasks alike. Belongs to the running loop."""

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()

    def ring(self, error: BaseException) -> None:
        """Report a violation, or a fault of the proof itself."""
        if not self._rung.done():
            self._rung.set_exception(error)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run work in the background; what it raises rings the alarm."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ring(error)

    async def guard(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do the work and return its result, unless the alarm rings first: then raise what rang it."""
        task = asyncio.create_task(work)
        try:
            waited_for: set[asyncio.Future[Any]] = {task, self._rung}
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if self._rung.done():
                self._rung.result()
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end(self) -> None:
        """End all work in the background."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._rung.done():
            self._rung.exception()  # whoever guarded has raised it; unread, it would be reported again
