"""The audit: it balances whatever was done through the product, and names whatever was done behind its back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

from models import audit as audited
from models.audit import STATES, audit
from models.database import connect, snapshot
from models.states import Priority
from ops.__main__ import app
from tests.api.test_erasure import live
from tests.api.test_listing import send
from tests.api.test_recipients import dispatched
from tests.api.test_topics import TOPIC, changed
from tests.models.test_log import arrive, ingest
from tests.workers.test_fan_out import broadcast, finish, names, step, subscribe
from workers.dispatch import dispatch_batch

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from models.database import Connection
    from workers.resources import Resources

A_NEW_ID = "'ffffffff-0000-7000-8000-000000000001'"


async def test_everything_that_was_accepted_is_in_one_place(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    await send(backend)
    found = audit(database_url, 10)
    (row,) = connection.execute("SELECT count(*) AS n FROM notification").fetchall()
    assert (found.accepted, found.faults, found.some) == (row["n"], 0, ())
    assert {state: found.counts[state] for state in STATES} == {
        "waiting": 1,
        "scheduled": 3,
        "parked": 2,
        "dispatched": 7,
        "cancelled": 0,
        "expired": 2,
        "lost": 0,
    }
    assert (found.counts["inboxes"], found.counts["deliveries"], found.counts["changes"]) == (2, 9, 3)


async def test_a_broadcast_is_on_its_way_until_it_has_ended(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await changed(backend, names(25))
    key = await send(backend, to={"topic": TOPIC})
    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=5)
    assert (audit(database_url, 10).counts["waiting"], audit(database_url, 10).faults) == (1, 0)
    connection.execute("UPDATE notification SET expires_at = now() WHERE id = %s", [key])
    await dispatched(worker)
    assert (audit(database_url, 10).counts["expired"], audit(database_url, 10).faults) == (1, 0)
    await send(backend, to={"topic": "nobody:listens"})
    await dispatched(worker)
    assert (audit(database_url, 10).counts["dispatched"], audit(database_url, 10).faults) == (1, 0)


def test_it_balances_while_everything_moves(connection: Connection, database_url: str) -> None:
    subscribe(connection, names(200))
    for nth in range(40):
        ingest(connection, f"u_{nth % 7:03}", 20)
        broadcast(connection, {"topic": TOPIC})
    with connect(database_url) as dispatcher, ThreadPoolExecutor(1) as pool:
        work = pool.submit(finish, dispatcher, limit=5)
        looked = 0
        while not work.done():
            found = audit(database_url, 10)
            assert (found.accepted, found.some) == (840, ())
            looked += 1
    assert looked > 1
    assert audit(database_url, 10).counts["dispatched"] == 840


def nth(number: int) -> str:
    """The notification with so many before it."""
    return f"(SELECT id FROM notification ORDER BY created_at, id OFFSET {number} LIMIT 1)"


TWICE = """
WITH more AS (UPDATE inbox SET last_seq = 4, unread = 2, unseen = 2)
INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority)
SELECT inbox_id, 4, notification_id, domain, type, priority FROM delivery WHERE seq = 2
"""


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        ("DELETE FROM outbox", "neither waits, nor is parked"),
        ("DELETE FROM delivery WHERE seq = 2", "has 2 of the numbers from 1 to 3"),
        ("DELETE FROM delivery WHERE seq = 2", "neither waits, nor is parked"),
        ("DELETE FROM inbox_change", "has 2 of the numbers from 1 to 3"),
        (
            "INSERT INTO inbox_change (inbox_id, seq, action, up_to) SELECT id, 2, 'read', 1 FROM inbox",
            "a number twice",
        ),
        ("INSERT INTO inbox_change (inbox_id, seq, action, up_to) SELECT id, 4, 'read', 1 FROM inbox", "past its last"),
        ("UPDATE inbox SET last_seq = 5", "has 3 of the numbers from 1 to 5"),
        ("UPDATE inbox SET unread = 7", "says 7 unread and 1 unseen, and has 1 and 1"),
        ("UPDATE inbox SET unseen = 0", "says 1 unread and 0 unseen, and has 1 and 1"),
        ("UPDATE delivery SET deleted_at = now() WHERE seq = 2", "says 1 unread and 1 unseen, and has 0 and 0"),
        ("DELETE FROM inbox", "has entries, and does not exist"),
        ("INSERT INTO outbox (notification_id, priority) SELECT notification_id, 2 FROM outbox", "more than once"),
        (f"INSERT INTO outbox (notification_id, priority) SELECT {nth(0)}, 2", "was delivered, and is waiting"),
        (f"INSERT INTO parked SELECT {nth(2)}, 2, 1, '', now()", "waits, and is parked"),
        (f"INSERT INTO parked SELECT {nth(0)}, 2, 1, '', now()", "was delivered, and is parked"),
        (
            f"INSERT INTO notification_event (notification_id, event, detail) SELECT {nth(0)}, 'expired', ''",
            "was delivered, and has expired",
        ),
        (
            f"INSERT INTO broadcast (notification_id, cursor, reached, done_at) SELECT {nth(2)}, '', 0, now()",
            "has been told to all, and waits",
        ),
        (
            TWICE,
            "was delivered to somebody more than once",
        ),
        (
            """UPDATE notification SET audience = '{"users": ["u_1", "u_2"]}'""",
            "names 2 users, was delivered to 1 and suppressed for 0",
        ),
        (f"INSERT INTO suppression VALUES ({A_NEW_ID}, 'u_1', 'x')", "does not exist, and suppression has a row of it"),
        (f"INSERT INTO outbox (notification_id, priority) VALUES ({A_NEW_ID}, 1)", "and outbox has a row of it"),
        (f"UPDATE delivery SET notification_id = {A_NEW_ID} WHERE seq = 2", "and delivery has a row of it"),
    ],
)
def test_it_names_what_is_wrong(breaking: str, said: str, connection: Connection, database_url: str) -> None:
    arrive(connection, "u_1", 2)
    (box,) = connection.execute("SELECT id FROM inbox").fetchall()
    connection.execute("UPDATE delivery SET read_at = now(), seen_at = now() WHERE seq = 1")
    connection.execute("UPDATE inbox SET last_seq = 3, unread = 1, unseen = 1")
    connection.execute("INSERT INTO inbox_change (inbox_id, seq, action, up_to) VALUES (%s, 3, 'read', 1)", [box["id"]])
    ingest(connection, "u_1")
    assert audit(database_url, 10).some == ()
    connection.execute(breaking)  # type: ignore[arg-type]
    found = audit(database_url, 10)
    assert found.faults == len(found.some) >= 1
    assert [fault for what, fault in found.some if said in fault], found.some


def test_a_broadcast_that_was_forgotten_half_way_is_lost(connection: Connection, database_url: str) -> None:
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC})
    step(connection)
    connection.execute("DELETE FROM outbox")
    (fault,) = audit(database_url, 10).some
    assert fault == (f"notification {key}", "neither waits, nor is parked, dispatched, cancelled or expired")


def test_what_it_looks_at_does_not_change_and_cannot_be_changed(connection: Connection, database_url: str) -> None:
    with connect(database_url) as reader:
        with snapshot(reader):
            before = reader.execute("SELECT count(*) AS n FROM notification").fetchall()
            ingest(connection, "u_1")
            assert reader.execute("SELECT count(*) AS n FROM notification").fetchall() == before
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), snapshot(reader):
            reader.execute("DELETE FROM outbox")
    assert audited.audit(database_url, 1).accepted == 1


def test_the_command_shows_the_sums_and_fails_where_they_are_wrong(
    connection: Connection, database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BELLHOP_DATABASE_URL", "BELLHOP_REDIS_URL", "BELLHOP_SECRET_KEY", "BELLHOP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BELLHOP_DATA_DIR", str(tmp_path))
    (tmp_path / "dev.json").write_text(json.dumps({"database_url": database_url, "redis_url": redis_url}))
    arrive(connection, "u_1", 3)
    keys = ingest(connection, "u_1", 5)
    good = CliRunner().invoke(app, ["audit"])
    assert good.exit_code == 0, good.output
    lines = dict(line.split() for line in good.stdout.splitlines())
    assert (lines["accepted"], lines["waiting"], lines["dispatched"], lines["faults"]) == ("8", "5", "3", "0")
    connection.execute("DELETE FROM outbox")
    textfile = tmp_path / "bellhop.prom"
    bad = CliRunner().invoke(app, ["audit", "--limit", "2", "--metrics", str(textfile)])
    assert "bellhop_audit_faults 5.0" in textfile.read_text().splitlines()
    assert 'bellhop_audit_notifications{state="lost"} 5.0' in textfile.read_text().splitlines()
    nowhere = CliRunner().invoke(app, ["audit", "--metrics", str(tmp_path / "none" / "x.prom")])
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (1, True)
    assert bad.exit_code == 1
    assert [line for line in bad.stderr.splitlines() if line.startswith(f"notification {min(keys)} ")]
    assert "and 3 more" in bad.stderr
    connection.execute("DROP TABLE delivery CASCADE")
    missing = CliRunner().invoke(app, ["audit"])
    assert (missing.exit_code, "migrate" in missing.stderr) == (1, True)
