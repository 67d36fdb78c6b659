"""The Celery tasks and the hints that start them: whatever gets lost, somebody looks again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from api.hints import Hints
from models import redis_keys, telemetry
from models.states import Priority
from tests.conftest import nobody
from tests.models.test_log import ingest
from tests.workers.test_digest import say as gather
from workers import process, tasks
from workers.celery_app import app, make_celery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources


@pytest.fixture
def _as_worker(worker: Resources, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process, "resources", lambda: worker)
    before = app.conf.broker_url
    app.conf.broker_url = settings.redis_url
    yield
    app.conf.broker_url = before


@pytest.fixture
async def hints(settings: Settings) -> AsyncIterator[Hints]:
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    sending = Hints(make_celery(settings), client)
    sending.start()
    yield sending
    await sending.stop()
    await client.aclose()


def waiting(worker: Resources) -> dict[str, int]:
    """Return how many Celery messages wait, by queue."""
    return {str(priority): worker.redis.llen(str(priority)) for priority in Priority}  # type: ignore[misc]


def value(gauge: object, *labels: str) -> float:
    return gauge.labels(*labels)._value.get() if labels else gauge._value.get()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.usefixtures("_as_worker")
def test_a_sweep_lets_what_has_expired_leave(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_EXPIRED_AT_ONCE", 2)
    keys = ingest(connection, "u_1", 5, Priority.HIGH)
    tasks.dispatch("high")
    connection.execute(
        "INSERT INTO expiry (notification_id, priority, expires_at) "
        "SELECT id, priority, CASE WHEN id = %s THEN now() + interval '1 hour' ELSE now() END FROM notification",
        [keys[0]],
    )
    tasks.sweep()
    assert waiting(worker)["high"] == 1
    assert value(telemetry.outbox_depth, "high") == 4
    before = value(telemetry.withdrawn, "expired")
    tasks.dispatch("high")
    assert value(telemetry.withdrawn, "expired") - before == 4
    assert connection.execute("SELECT seq FROM delivery WHERE deleted_at IS NULL").fetchall() == [{"seq": 1}]


@pytest.mark.usefixtures("_as_worker")
def test_a_sweep_closes_all_digests_that_are_due_and_hints_at_what_they_become(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_DIGESTS_AT_ONCE", 2)
    for nth in range(6):
        gather(connection, str(nth), digest_key=str(nth), priority=Priority.LOW.rank)
    tasks.dispatch("low")
    connection.execute("UPDATE digest SET closes_at = now() WHERE key <> '5'")
    worker.redis.flushall()
    before = value(telemetry.digests_closed)
    tasks.sweep()
    assert value(telemetry.digests_closed) - before == 5
    assert waiting(worker) == {"critical": 0, "high": 0, "normal": 0, "low": 1}
    tasks.dispatch("low")
    rows = connection.execute(
        "SELECT n.title FROM delivery d JOIN notification n ON n.id = d.notification_id"
    ).fetchall()
    assert sorted(row["title"] for row in rows) == ["0", "1", "2", "3", "4"]


@pytest.mark.usefixtures("_as_worker")
def test_a_sweep_hints_at_what_is_due_and_measures_it(connection: Connection, worker: Resources) -> None:
    ingest(connection, "u_1", 3, Priority.HIGH)
    tasks.sweep()
    assert waiting(worker) == {"critical": 0, "high": 1, "normal": 0, "low": 0}
    assert [value(telemetry.outbox_depth, str(priority)) for priority in Priority] == [0, 3, 0, 0]
    assert value(telemetry.outbox_age, "high") > 0
    assert value(telemetry.swept_at) > 0


@pytest.mark.usefixtures("_as_worker")
def test_a_sweep_leaves_alone_what_somebody_looks_after(connection: Connection, worker: Resources) -> None:
    ingest(connection, "u_1")
    tasks.sweep()
    tasks.sweep()
    assert waiting(worker)["normal"] == 1, "the first hint is on its way"
    worker.redis.delete(redis_keys.hint_outstanding("normal"))  # it got lost, and its flag ran out
    tasks.sweep()
    assert waiting(worker)["normal"] == 2


@pytest.mark.usefixtures("_as_worker")
def test_a_task_dispatches_and_leaves_nothing(connection: Connection, worker: Resources) -> None:
    ingest(connection, "u_1", 3)
    tasks.dispatch("normal")
    assert connection.execute("SELECT count(*) AS n FROM delivery").fetchone() == {"n": 3}
    assert waiting(worker) == {"critical": 0, "high": 0, "normal": 0, "low": 0}


@pytest.mark.usefixtures("_as_worker")
def test_a_task_that_has_spent_its_time_hints_at_the_rest(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(connection, "u_1", 3)
    worker.settings = worker.settings.model_copy(update={"dispatch_budget_s": 1e-9})
    tasks.dispatch("normal")
    assert waiting(worker)["normal"] == 1


def test_the_successor_is_called_before_the_time_is_up(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_OVERLAP_S", 1.0)  # so that a slow machine cannot be late for it
    worker.settings = worker.settings.model_copy(update={"dispatch_budget_s": 2.0, "dispatch_linger_s": 5.0})
    left: list[float] = []
    end = time.monotonic() + 2.0
    assert tasks.dispatch_until_idle(worker, Priority.NORMAL, lambda: left.append(end - time.monotonic())) is True
    assert len(left) == 1
    assert left[0] > 0
    assert worker.redis.exists(redis_keys.hint_outstanding("normal")), "the successor need not be called once more"


@pytest.mark.parametrize("task", [lambda: tasks.dispatch("normal"), tasks.sweep])
def test_without_postgres_a_task_ends_and_the_next_one_works(
    task: object, connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = worker.settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/none"})
    lost = replace(worker, settings=nowhere)
    monkeypatch.setattr(process, "resources", lambda: lost)
    task()  # type: ignore[operator]
    lost.settings = worker.settings
    ingest(connection, "u_1")
    tasks.dispatch("normal")
    assert connection.execute("SELECT count(*) AS n FROM outbox").fetchone() == {"n": 0}
    lost.close()


@pytest.mark.usefixtures("_as_worker")
def test_a_connection_from_before_a_restart_of_postgres_costs_nothing(
    connection: Connection, worker: Resources
) -> None:
    pid = worker.postgres().info.backend_pid
    connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    ingest(connection, "u_1")
    tasks.dispatch("normal")
    assert connection.execute("SELECT count(*) AS n FROM outbox").fetchone() == {"n": 0}


async def test_the_first_hint_is_a_message_and_those_after_it_are_not(hints: Hints, worker: Resources) -> None:
    sent = telemetry.hints.labels("normal", "sent")._value
    woken = telemetry.hints.labels("normal", "woken")._value
    before = sent.get(), woken.get()
    for nth in range(1, 4):
        hints.want([Priority.NORMAL])
        async with asyncio.timeout(10):
            while sent.get() + woken.get() < sum(before) + nth:  # noqa: ASYNC110  # a counter gives no signal
                await asyncio.sleep(0.005)
    assert (sent.get() - before[0], woken.get() - before[1]) == (1, 2)
    assert waiting(worker) == {"critical": 0, "high": 0, "normal": 1, "low": 0}


async def test_a_dispatcher_that_lingers_is_woken_without_a_message(
    hints: Hints, connection: Connection, worker: Resources
) -> None:
    worker.settings = worker.settings.model_copy(update={"dispatch_linger_s": 3.0, "dispatch_budget_s": 60.0})
    lingering = asyncio.create_task(asyncio.to_thread(tasks.dispatch_until_idle, worker, Priority.NORMAL, nobody))
    async with asyncio.timeout(10):
        while not worker.redis.exists(redis_keys.hint_outstanding("normal")):  # noqa: ASYNC110  # its sign that it lingers
            await asyncio.sleep(0.005)
        ingest(connection, "u_1", 2)
        hints.want([Priority.NORMAL])
        while connection.execute("SELECT 1 FROM outbox").fetchone():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert not lingering.done()
    assert waiting(worker)["normal"] == 0
    assert await lingering is False
    assert not worker.redis.exists(redis_keys.hint_outstanding("normal"))


async def test_without_redis_a_hint_fails_quietly_and_the_next_one_is_sent(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    client = redis.asyncio.Redis.from_url(nowhere.redis_url)
    sending = Hints(make_celery(nowhere), client)
    sending.start()
    failed = telemetry.hints.labels("low", "failed")._value
    before = failed.get()
    sending.want([Priority.LOW])
    async with asyncio.timeout(10):
        while failed.get() == before:  # noqa: ASYNC110  # a counter gives no signal
            await asyncio.sleep(0.005)
    await sending.stop()
    await client.aclose()
