"""Stage 4: push what was committed. Of a backlog, each batch is pushed beside the dispatch of the next.

Postgres is busy with that one then, and this process is not. Batches are pushed one after another, in their order.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import redis
import structlog

from models import telemetry
from models.push import Told, nowhere

if TYPE_CHECKING:
    from models.push import AnswersFor
    from models.states import Priority
    from workers.dispatch import Batch
    from workers.pace import Pace
    from workers.resources import Resources

log = structlog.get_logger(__name__)


class Pushing:
    """One dispatcher's. A context manager: at its end everything is pushed."""

    def __init__(self, resources: Resources, priority: Priority, pace: Pace) -> None:
        self._resources = resources
        self._priority = priority
        self._pace = pace
        self._thread = ThreadPoolExecutor(1, "pushing")  # starts none before there is something for it to do
        self._under_way: tuple[Batch, Future[tuple[Told | None, float]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._finish()
        finally:
            self._thread.shutdown()

    def now(self, batch: Batch) -> None:
        """Push a batch, and return when that is done."""
        self._finish()
        self._note(batch, *_push(self._resources, self._priority, batch, nowhere))

    def beside(self, batch: Batch) -> None:
        """Push the batch before to its end, and begin with this one. The nodes are asked to answer."""
        self._finish()
        task = self._thread.submit(_push, self._resources, self._priority, batch, self._pace.answers_for)
        self._under_way = batch, task

    def _finish(self) -> None:
        if self._under_way is None:
            return
        (batch, task), self._under_way = self._under_way, None
        told, at = task.result()
        self._pace.published(told or ())
        self._note(batch, told, at)

    def _note(self, batch: Batch, told: Told | None, at: float) -> None:
        """Note who was told, if that is known. In the dispatcher's thread: it is its connection that is written by."""
        notes = self._resources.push_notes
        if told is not None and batch.delivered and batch.dispatched_at is not None:
            notes.add(self._priority, batch.dispatched_at, batch.broadcast, told, at)
        notes.write_if_due(self._resources.postgres)


def _push(resources: Resources, priority: Priority, batch: Batch, answers_for: AnswersFor) -> tuple[Told | None, float]:
    """Tell the nodes, and return which were told, what of and when (monotonic). None: nothing is known of that."""
    try:
        return resources.publisher.publish(batch.pushes, answers_for), time.monotonic()
    except redis.RedisError as error:
        telemetry.push_failures.inc()
        log.warning("push failed; the socket nodes will repair it", priority=str(priority), error=str(error))
        return None, time.monotonic()
