"""Accepted = on its way + at an end, as metrics: whatever gets lost shows, and only that, and only for so long."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from models import telemetry
from models.audit import STATES, audit
from models.queries import audit as sql
from models.settings import SettingsError, load_settings
from models.states import Priority
from tests.api.test_erasure import live
from tests.api.test_listing import send
from tests.api.test_recipients import dispatched
from tests.api.test_topics import TOPIC, changed
from tests.conftest import notification
from workers import balance, process, tasks
from workers.balance import balance_once
from workers.celery_app import app
from workers.dispatch import dispatch_batch

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources


@pytest.fixture(autouse=True)
def _round_after_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_ROUND_S", 0.0)


def looked_at() -> Counter[str]:
    return Counter({state: int(telemetry.looked_at.labels(state)._value.get()) for state in STATES})


def unaccounted(worker: Resources) -> int:
    """What the metric says after a look."""
    balance_once(worker)
    return int(telemetry.unaccounted._value.get())


def found(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT notification_id::text AS id FROM unaccounted ORDER BY 1").fetchall()
    return [row["id"] for row in rows]


async def test_whatever_is_done_it_finds_each_where_the_audit_does_and_misses_none(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    await changed(backend, [f"u_{nth}" for nth in range(25)])
    await send(backend, to={"topic": TOPIC}, priority="high")
    dispatch_batch(connection, Priority.HIGH, limit=1, attempts=5)
    gone = await send(backend, priority="high")
    await backend.delete(f"/v1/notifications/{gone}")
    await backend.put("/v1/types/shop.cart.left", json={"digest": {"every": "1h"}})
    await send(backend, type="shop.cart.left")
    await send(backend)
    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=5)
    before = looked_at()
    assert unaccounted(worker) == 0
    sums = audit(database_url, 10)
    assert sums.faults == 0
    assert {state for state in STATES if sums.counts[state]} == {*STATES} - {"lost"}
    assert looked_at() - before == Counter({state: sums.counts[state] for state in STATES if sums.counts[state]})


async def test_a_notification_whose_outbox_row_is_deleted_shows_until_it_is_put_back(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    key = await send(backend)
    await send(backend)
    assert unaccounted(worker) == 0
    connection.execute("DELETE FROM outbox WHERE notification_id = %s", [key])
    for _ in range(2):
        assert unaccounted(worker) == 1
    assert found(connection) == [key]
    connection.execute("INSERT INTO outbox (notification_id, priority) VALUES (%s, 2)", [key])
    assert unaccounted(worker) == 0
    await dispatched(worker)
    assert unaccounted(worker) == 0
    assert found(connection) == []


@pytest.mark.parametrize(
    "breaking",
    [
        "DELETE FROM delivery WHERE notification_id = %(id)s",
        "DELETE FROM broadcast WHERE notification_id = %(id)s",
        "UPDATE broadcast SET done_at = NULL WHERE notification_id = %(id)s",
    ],
)
async def test_what_was_dispatched_and_left_no_trace_shows_and_is_ended_by_cancelling_it(
    breaking: str, backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await changed(backend, ["u_1"])
    to = {"topic": TOPIC} if "broadcast" in breaking else {"user": "u_1"}
    key = await send(backend, to=to)
    await dispatched(worker)
    assert unaccounted(worker) == 0
    connection.execute(breaking, {"id": key})  # type: ignore[arg-type]
    assert unaccounted(worker) == 1
    assert (await backend.delete(f"/v1/notifications/{key}")).json()["status"] == "cancelled"
    assert unaccounted(worker) == 0


async def test_what_is_lost_half_way_through_a_broadcast_shows(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await changed(backend, [f"u_{nth:02}" for nth in range(25)])
    await send(backend, to={"topic": TOPIC})
    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=5)
    assert unaccounted(worker) == 0
    connection.execute("DELETE FROM outbox")
    assert unaccounted(worker) == 1


async def test_what_was_found_is_remembered_beyond_the_window_and_forgotten_with_its_notification(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await send(backend)
    connection.execute("DELETE FROM outbox")
    assert unaccounted(worker) == 1
    before = looked_at()
    later = time.time() + worker.settings.balance_window_s + 10
    monkeypatch.setattr(time, "time", lambda: later)
    assert unaccounted(worker) == 1
    assert looked_at() == before, "it is too old to be looked for"
    connection.execute("DELETE FROM notification WHERE id = %s", [key])
    assert unaccounted(worker) == 0


async def test_a_look_is_bounded_and_the_next_one_goes_on(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "LOOK_AT_NOTIFICATIONS", sql.LOOK_AT_NOTIFICATIONS.replace("2000", "4"))
    await backend.post("/v1/notifications/bulk", json={"notifications": [notification() for _ in range(30)]})
    connection.execute("DELETE FROM outbox")
    assert unaccounted(worker) == 20
    assert unaccounted(worker) == 30
    assert len(found(connection)) == 30


async def test_however_many_were_found_each_is_looked_at_again(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "LOOK_AGAIN", sql.LOOK_AGAIN.replace("1000", "4"))
    await backend.post("/v1/notifications/bulk", json={"notifications": [notification() for _ in range(13)]})
    connection.execute("DELETE FROM outbox")
    assert unaccounted(worker) == 13
    lost = found(connection)
    for back in (lost[5:6], lost[8:12], lost[12:]):  # and the first four stay where they are
        connection.execute("INSERT INTO outbox (notification_id, priority) SELECT unnest(%s::uuid[]), 2", [back])
    assert unaccounted(worker) == 7
    assert found(connection) == [*lost[:5], *lost[6:8]]


async def test_of_very_many_that_were_found_so_many_are_looked_at_each_time(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "LOOK_AGAIN", sql.LOOK_AGAIN.replace("10000", "8").replace("1000", "4"))
    monkeypatch.setattr(balance, "_MOST_LOOKS_AGAIN", 2)
    await backend.post("/v1/notifications/bulk", json={"notifications": [notification() for _ in range(13)]})
    connection.execute("DELETE FROM outbox")
    assert unaccounted(worker) == 8
    connection.execute("INSERT INTO outbox (notification_id, priority) SELECT id, 2 FROM notification")
    assert unaccounted(worker) > 0, "there are more than it looks at"
    assert len(found(connection)) == 5
    assert unaccounted(worker) == 0
    assert found(connection) == []


async def test_a_round_begins_when_it_is_time_and_not_before(
    backend: httpx.AsyncClient, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "_ROUND_S", 60.0)
    await send(backend)
    before = looked_at()
    for _ in range(3):
        assert unaccounted(worker) == 0
    assert (looked_at() - before).total() == 1


async def test_it_can_be_switched_off(backend: httpx.AsyncClient, worker: Resources, connection: Connection) -> None:
    worker.settings = worker.settings.model_copy(update={"balance_window_s": 0})
    await send(backend)
    connection.execute("DELETE FROM outbox")
    balance_once(worker)
    assert found(connection) == []


async def test_the_task_looks_and_runs_every_few_seconds(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "resources", lambda: worker)
    await send(backend)
    connection.execute("DELETE FROM outbox")
    tasks.balance()
    assert telemetry.unaccounted._value.get() == 1
    assert app.conf.beat_schedule["balance"]["task"] == tasks.balance.name


@pytest.mark.parametrize("value", ["-1", "an hour", "604801"])
def test_a_wrong_window_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLHOP_BALANCE_WINDOW_S", value)
    with pytest.raises(SettingsError, match="BELLHOP_BALANCE_WINDOW_S"):
        load_settings()
