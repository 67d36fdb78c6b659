"""Taking back: what has expired or was recalled leaves every inbox once, and the log says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import psycopg
import pytest

from models.push import NO_PRIORITY, WITHDRAWN
from models.queries import withdraw as sql
from models.socket_events import InboxFrame
from models.states import Action, Priority
from ops.prove.replica import Replica
from tests.conftest import nobody
from tests.models.test_log import fresh_read, ingest, replay, store
from tests.workers.test_fan_out import TOPIC, broadcast, finish, names, outbox, subscribe
from workers import dispatch as dispatch_module
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources


def expire(connection: Connection) -> int:
    """Let everything that ends expire now. Returns how many notifications did."""
    connection.execute("UPDATE expiry SET expires_at = now()")
    return sum(row["n"] for row in connection.execute(sql.queue_expired(1_000)).fetchall())


def with_an_end(
    connection: Connection, user: str, how_many: int = 1, priority: Priority = Priority.NORMAL
) -> list[str]:
    keys = ingest(connection, user, how_many, priority)
    for key in keys:
        connection.execute(
            "INSERT INTO expiry (notification_id, priority, expires_at) VALUES (%s, %s, now() + interval '1 hour')",
            [key, priority.rank],
        )
    return keys


def boxes(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """Last number, unread and unseen, by user."""
    rows = connection.execute("SELECT user_id, last_seq, unread, unseen FROM inbox").fetchall()
    return {row["user_id"]: (row["last_seq"], row["unread"], row["unseen"]) for row in rows}


def events(connection: Connection, key: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        "SELECT event, detail FROM notification_event WHERE notification_id = %s ORDER BY id", [key]
    ).fetchall()
    return [(row["event"], row["detail"]) for row in rows]


def withdrawn(connection: Connection, key: str) -> int:
    (row,) = connection.execute(
        "SELECT withdrawn FROM withdrawal WHERE notification_id = %s AND cause = 'expired'", [key]
    ).fetchall()
    return int(row["withdrawn"])


def test_ingest_notes_when_something_ends(connection: Connection) -> None:
    key = broadcast(connection, {"user": "a"}, expires_at="2100-01-01T00:00:00Z")
    broadcast(connection, {"user": "a"})
    rows = connection.execute("SELECT notification_id::text AS id, priority FROM expiry").fetchall()
    assert rows == [{"id": key, "priority": Priority.NORMAL.rank}]
    assert connection.execute(sql.queue_expired(10)).fetchall() == []


async def test_what_has_expired_leaves_the_inbox_and_the_log_replays(
    settings: Settings, connection: Connection
) -> None:
    ingest(connection, "a")
    (key,) = with_an_end(connection, "a")
    finish(connection)
    async with store(settings) as inbox:
        device = Replica()
        await replay(inbox, "a", device, 500)
        assert expire(connection) == 1
        (batch,) = finish(connection)
        assert (dict(batch.withdrawn), batch.delivered, outbox(connection)) == ({"expired": 1}, 0, 0)
        assert boxes(connection) == {"a": (3, 1, 1)}
        await replay(inbox, "a", device, 500)
        assert device.newest_first() == await fresh_read(inbox, "a")
        assert [item["seq"] for item in device.newest_first()] == [1]
    assert events(connection, key) == [("withdrawn", "expired, and taken out of 1 inbox")]


def test_devices_are_told_in_one_change_for_each_inbox(connection: Connection) -> None:
    with_an_end(connection, "a", 2)
    with_an_end(connection, "b")
    finish(connection)
    expire(connection)
    (batch,) = finish(connection, limit=500)
    frames = {push.key: orjson.loads(push.packet[1:])[1] for push in batch.pushes}
    for frame in frames.values():
        InboxFrame.model_validate(frame)
    (change,) = frames["default/a"]["entries"]
    assert (change["action"], change["seqs"], change["seq"]) == ("delete", [1, 2], 3)
    assert frames["default/a"]["counts"] == {"unread": 0, "unseen": 0}
    assert frames["default/b"]["to"] == 2


@pytest.mark.parametrize(("priority", "channel"), [(Priority.HIGH, NO_PRIORITY), (Priority.LOW, WITHDRAWN)])
def test_it_travels_the_way_of_what_it_takes_back(connection: Connection, priority: Priority, channel: int) -> None:
    with_an_end(connection, "a", 1, priority)
    dispatch_batch(connection, priority, limit=10, attempts=2)
    expire(connection)
    assert [push.priority for push in dispatch_batch(connection, priority, limit=10, attempts=2).pushes] == [channel]


def test_what_was_read_archived_or_deleted_is_counted_right(connection: Connection, settings: Settings) -> None:
    keys = with_an_end(connection, "a", 4)
    finish(connection)
    connection.execute("UPDATE delivery SET read_at = now(), seen_at = now() WHERE seq = 1")
    connection.execute("UPDATE delivery SET archived_at = now() WHERE seq = 2")
    connection.execute("UPDATE delivery SET deleted_at = now() WHERE seq = 3")
    connection.execute("UPDATE inbox SET unread = 1, unseen = 1")
    expire(connection)
    finish(connection, limit=500)
    assert boxes(connection) == {"a": (5, 0, 0)}
    (change,) = connection.execute("SELECT seqs FROM inbox_change").fetchall()
    assert change["seqs"] == [1, 2, 4]
    assert [withdrawn(connection, key) for key in keys] == [1, 1, 0, 1]


def test_what_expired_before_it_could_be_delivered_says_so_once(connection: Connection) -> None:
    (key,) = with_an_end(connection, "a")
    connection.execute("UPDATE notification SET expires_at = now()")
    expire(connection)
    first, second = finish(connection)
    assert (first.expired, second.expired, boxes(connection)) == (1, 0, {})
    ((event, detail),) = events(connection, key)
    assert event == "expired"
    assert "was to be delivered" in detail


def test_a_broadcast_is_taken_back_in_bits_each_of_which_counts_once(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch_module, "MOST_DELIVERIES", 10)
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC}, expires_at="2100-01-01T00:00:00Z")
    (after,) = ingest(connection, "u_003")
    finish(connection)
    expire(connection)
    victim = worker.postgres()

    def die_before_the_commit() -> None:
        with victim.transaction():
            assert dispatch_batch(victim, Priority.NORMAL, limit=1, attempts=2).withdrawn == {"expired": 10}
            msg = "killed"
            raise RuntimeError(msg)

    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=2)
    with pytest.raises(RuntimeError, match="killed"):
        die_before_the_commit()
    assert (withdrawn(connection, key), outbox(connection)) == (10, 1)
    finish(connection)
    assert (withdrawn(connection, key), outbox(connection)) == (25, 0)
    assert boxes(connection) == {name: (2, 0, 0) if name != "u_003" else (3, 1, 1) for name in names(25)}
    (left,) = connection.execute("SELECT notification_id::text AS id FROM delivery WHERE deleted_at IS NULL").fetchall()
    assert left["id"] == after
    assert events(connection, key) == [("withdrawn", "expired, and taken out of 25 inboxes")]


def test_one_that_expires_half_way_stops_and_leaves_those_who_have_it(connection: Connection) -> None:
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC}, expires_at="2100-01-01T00:00:00Z")
    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=2)
    connection.execute("UPDATE notification SET expires_at = now()")
    expire(connection)
    finish(connection)
    assert boxes(connection) == dict.fromkeys(names(10), (2, 0, 0))
    assert [event for event, _ in events(connection, key)] == ["expired", "withdrawn"]


def test_an_inbox_that_somebody_holds_is_waited_for(connection: Connection, database_url: str) -> None:
    with_an_end(connection, "a")
    finish(connection)
    expire(connection)
    ingest(connection, "b")
    connection.execute("SET lock_timeout = '50ms'")
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM inbox WHERE user_id = 'a' FOR UPDATE")
        batch = dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=2)
        assert (batch.claimed, batch.full, outbox(connection)) == (0, True, 2)
    finish(connection)
    assert boxes(connection) == {"a": (2, 0, 0), "b": (1, 1, 1)}


def test_one_that_cannot_be_taken_back_is_tried_for_ever(connection: Connection) -> None:
    (key,) = with_an_end(connection, "a")
    (good,) = with_an_end(connection, "b")
    finish(connection)
    connection.execute("ALTER TABLE inbox_change ADD CONSTRAINT refused CHECK (inbox_id <> 1)")
    expire(connection)
    for _ in range(5):
        connection.execute("UPDATE outbox SET due_at = (SELECT created_at FROM notification LIMIT 1)")
        finish(connection)
    connection.execute("ALTER TABLE inbox_change DROP CONSTRAINT refused")
    connection.execute("UPDATE outbox SET due_at = now()")
    finish(connection)
    assert (withdrawn(connection, key), withdrawn(connection, good), outbox(connection)) == (1, 1, 0)
    assert connection.execute("SELECT 1 FROM parked").fetchall() == []


async def test_what_was_recalled_leaves_only_those_who_had_not_read_it_and_expiry_takes_the_rest(
    settings: Settings, connection: Connection
) -> None:
    (key,) = with_an_end(connection, "a")
    connection.execute("""UPDATE notification SET audience = '{"users": ["a", "b"]}'""")
    finish(connection)
    async with store(settings) as inbox:
        await inbox.act("default", "b", [Action.READ], seqs=[1], up_to=None)
        connection.execute(sql.BEGIN_RECALL_IF_NEW, {"id": key})
        connection.execute(sql.QUEUE_RECALL, {"id": key, "priority": Priority.NORMAL.rank})
        await inbox.act("default", "a", [Action.READ], seqs=[1], up_to=None)  # too late
        finish(connection)
        assert await fresh_read(inbox, "a") == []
        assert len(await fresh_read(inbox, "b")) == 1
        expire(connection)
        finish(connection)
        assert await fresh_read(inbox, "b") == []


def test_what_comes_and_what_leaves_share_a_dispatcher(connection: Connection, worker: Resources) -> None:
    for nth in range(30):
        with_an_end(connection, f"u_{nth % 3}")
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    ingest(connection, "u_0")
    expire(connection)
    ingest(connection, "u_1", 2)
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    assert boxes(connection) == {"u_0": (12, 1, 1), "u_1": (13, 2, 2), "u_2": (11, 0, 0)}
    assert outbox(connection) == 0


def test_a_recall_and_an_expiry_of_the_same_count_once(connection: Connection) -> None:
    keys = with_an_end(connection, "a", 3)
    finish(connection)
    connection.execute(sql.BEGIN_RECALL_IF_NEW, {"id": keys[1]})
    connection.execute(sql.QUEUE_RECALL, {"id": keys[1], "priority": Priority.NORMAL.rank})
    connection.execute("UPDATE expiry SET expires_at = now() WHERE notification_id = %s", [keys[1]])
    connection.execute(sql.queue_expired(10))
    finish(connection, limit=500)
    assert boxes(connection) == {"a": (4, 2, 2)}
    assert connection.execute("SELECT seqs FROM inbox_change").fetchall() == [{"seqs": [2]}]
    assert withdrawn(connection, keys[1]) == 0
    assert outbox(connection) == 0


def test_rows_whose_notification_is_gone_are_cleared_away(connection: Connection) -> None:
    gone = ingest(connection, "a", 3)
    ingest(connection, "b")
    connection.execute("DELETE FROM notification WHERE id = ANY(%s::uuid[])", [gone])
    finish(connection, limit=3)
    finish(connection, limit=3)
    assert boxes(connection) == {"b": (1, 1, 1)}
    assert outbox(connection) == 0
