"""Many callers, one statement: whatever was asked for while the last batch ran goes out together in the next.

Idle, a call runs alone and at once; under load batches grow by themselves. No timer, no added latency.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batcher(Generic[Asked, Answer]):
    """Collects calls and hands them to `run` in order; `run` returns one answer, or exception, per call.

    `limit` bounds the sum of the calls' `weight`s in one batch; `lanes` is how many batches may be under way at once.
    If `run` raises, every call of that batch gets the exception.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | BaseException]]],
        *,
        limit: int,
        lanes: int = 1,
        weight: Callable[[Asked], int] = lambda _: 1,
    ) -> None:
        self._run = run
        self._limit = limit
        self._lanes = lanes
        self._weight = weight
        self._waiting: deque[tuple[Asked, asyncio.Future[Answer]]] = deque()
        self._context = contextvars.copy_context()  # a batch is nobody's alone: it must not log its first caller's id
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    async def __call__(self, asked: Asked) -> Answer:
        """Run `asked` in the next batch and return its own answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._running < self._lanes:
            self._running += 1
            task = asyncio.create_task(self._drain(), context=self._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._run_batch(self._next_batch())
        finally:
            # Here, in the same step that found nothing waiting: a callback of the task would come later, and a call
            # in between would count on a lane that is gone.
            self._running -= 1

    def _next_batch(self) -> list[tuple[Asked, asyncio.Future[Answer]]]:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        weight = 0
        while self._waiting and (not batch or weight + self._weight(self._waiting[0][0]) <= self._limit):
            call = self._waiting.popleft()
            if not call[1].cancelled():
                batch.append(call)
                weight += self._weight(call[0])
        return batch

    async def _run_batch(self, batch: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._run([asked for asked, _ in batch]) if batch else []
        except BaseException as error:  # noqa: BLE001  # handed to every caller, which raises it
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
