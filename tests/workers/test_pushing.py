"""Pushing beside the next batch: neither waits for the other, and nothing that was committed goes untold."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from models import telemetry
from models.database import connect
from models.push import BlockingPublisher, nowhere
from models.states import Priority
from tests.conftest import nobody
from tests.models.test_log import ingest
from workers import tasks
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.database import Connection
    from models.push import AnswersFor, Pushable, Told
    from workers.dispatch import Batch
    from workers.resources import Resources

PATIENCE_S = 20.0


class Recording(BlockingPublisher):
    """Does something first, then publishes, and knows which numbers it was given."""

    def __init__(self, client: redis.Redis, first: Callable[[], object]) -> None:
        super().__init__(client)
        self._first = first
        self.pushed: list[int] = []

    def publish(self, pushes: Sequence[Pushable], answers_for: AnswersFor = nowhere) -> Told:
        self._first()
        self.pushed += [push.last for push in pushes]
        return super().publish(pushes, answers_for)


def with_one_in_a_batch(worker: Resources, publisher: BlockingPublisher) -> Resources:
    worker.settings = worker.settings.model_copy(update={"dispatch_batch": 1})
    worker.publisher = publisher
    return worker


def test_the_next_batch_is_committed_while_one_is_pushed(
    connection: Connection, worker: Resources, database_url: str
) -> None:
    seen: list[int] = []

    def wait_for_the_next() -> None:
        with connect(database_url) as looking:
            for _ in range(2_000):
                (row,) = looking.execute("SELECT last_seq FROM inbox").fetchall()
                if row["last_seq"] > min(len(seen) + 1, 2):
                    break
                threading.Event().wait(PATIENCE_S / 2_000)
            seen.append(row["last_seq"])

    publisher = Recording(worker.redis, wait_for_the_next)
    ingest(connection, "u_1", 3)
    dispatch_until_idle(with_one_in_a_batch(worker, publisher), Priority.NORMAL, nobody)
    assert seen == [2, 3, 3]
    assert publisher.pushed == [1, 2, 3]


def test_what_was_committed_is_pushed_though_the_next_dispatch_fails(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def once(connection: Connection, priority: Priority, *, limit: int, attempts: int) -> Batch:
        if publisher.pushed or under_way:
            failed.set()
            raise psycopg.OperationalError
        under_way.append(True)
        return dispatch_batch(connection, priority, limit=limit, attempts=attempts)

    under_way: list[bool] = []
    publisher = Recording(worker.redis, lambda: failed.wait(PATIENCE_S))
    monkeypatch.setattr(tasks, "dispatch_batch", once)
    ingest(connection, "u_1", 2)
    with pytest.raises(psycopg.OperationalError):
        dispatch_until_idle(with_one_in_a_batch(worker, publisher), Priority.NORMAL, nobody)
    assert failed.is_set()
    assert publisher.pushed == [1]


def test_a_push_that_fails_is_counted_and_nothing_is_noted_of_it(connection: Connection, worker: Resources) -> None:
    def fail() -> None:
        raise redis.ConnectionError

    before = telemetry.push_failures._value.get()
    ingest(connection, "u_1", 2)
    dispatch_until_idle(with_one_in_a_batch(worker, Recording(worker.redis, fail)), Priority.NORMAL, nobody)
    assert telemetry.push_failures._value.get() == before + 2
    assert connection.execute("SELECT last_seq FROM inbox").fetchall() == [{"last_seq": 2}]
    assert connection.execute("SELECT * FROM pushed").fetchall() == []
