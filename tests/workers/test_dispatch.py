"""Dispatch: everything of a batch or nothing, in the order of acceptance, and no bad row in the way of good ones."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson
import psycopg
import pytest

from models import redis_keys
from models.contracts import PreferencesIn
from models.parked import list_parked, replay_parked
from models.push import decode
from models.socket_events import InboxFrame
from models.states import Priority
from tests.conftest import nobody
from tests.models.test_log import ingest
from workers.choose import Deliver, DiscardError, Expire, choose
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from models.database import Connection
    from workers.resources import Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(connection: Connection, priority: Priority = Priority.NORMAL, attempts: int = 5) -> int:
    return dispatch_batch(connection, priority, limit=500, attempts=attempts).claimed


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) AS n FROM {table}").fetchone()
    return int(row["n"]) if row else -1


def test_choosing_is_pure() -> None:
    assert choose({"user": "a"}, None, NOW) == Deliver(("a",))
    assert choose({"users": ["a", "b"]}, NOW + timedelta(seconds=1), NOW) == Deliver(("a", "b"))
    assert isinstance(choose({"user": "a"}, NOW, NOW), Expire)
    with pytest.raises(DiscardError, match="nobody"):
        choose({"nobody": 1}, None, NOW)


def test_a_batch_numbers_each_inbox_in_the_order_of_acceptance(connection: Connection) -> None:
    first = ingest(connection, "a", 3)
    second = ingest(connection, "a", 2)
    assert run(connection) == 5
    rows = connection.execute("SELECT notification_id::text AS id, seq FROM delivery ORDER BY seq").fetchall()
    assert [(row["seq"], row["id"]) for row in rows] == list(enumerate([*first, *second], 1))
    assert count(connection, "outbox") == 0


def test_a_batch_becomes_one_contiguous_frame_per_user(connection: Connection) -> None:
    ingest(connection, "a", 2)
    ingest(connection, "b", 1)
    batch = dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5)
    frames = {push.key: orjson.loads(push.packet[1:])[1] for push in batch.pushes}
    for frame in frames.values():
        InboxFrame.model_validate(frame)
    assert (frames["default/a"]["from"], frames["default/a"]["to"]) == (1, 2)
    assert frames["default/a"]["counts"] == {"unread": 2, "unseen": 2}
    assert [entry["seq"] for entry in frames["default/a"]["entries"]] == [1, 2]
    assert frames["default/b"]["to"] == 1


def test_what_is_scheduled_for_later_waits(connection: Connection) -> None:
    ingest(connection, "a")
    connection.execute("UPDATE outbox SET due_at = now() + interval '1 hour'")
    assert run(connection) == 0
    assert count(connection, "outbox") == 1


def test_what_has_expired_is_not_delivered_and_says_so(connection: Connection) -> None:
    (key,) = ingest(connection, "a")
    connection.execute("UPDATE notification SET expires_at = now() - interval '1 second'")
    assert run(connection) == 1
    assert (count(connection, "outbox"), count(connection, "delivery"), count(connection, "inbox")) == (0, 0, 0)
    events = connection.execute("SELECT notification_id::text AS id, event FROM notification_event").fetchall()
    assert events == [{"id": key, "event": "expired"}]


def test_a_row_whose_audience_cannot_be_resolved_is_parked_and_its_neighbours_go_on(connection: Connection) -> None:
    ingest(connection, "a")
    (bad,) = ingest(connection, "a")
    ingest(connection, "a")
    connection.execute("""UPDATE notification SET audience = '{"nobody": 1}' WHERE id = %s""", (bad,))
    assert run(connection) == 3
    assert count(connection, "delivery") == 2
    parked = connection.execute("SELECT notification_id::text AS id, reason FROM parked").fetchall()
    assert [(row["id"], "nobody" in row["reason"]) for row in parked] == [(bad, True)]


def test_a_row_that_postgres_refuses_is_retried_then_parked_then_replayed(
    connection: Connection, database_url: str
) -> None:
    (bad,) = ingest(connection, "a")
    (good,) = ingest(connection, "b")
    connection.execute("""UPDATE notification SET audience = '{"user": ""}' WHERE id = %s""", (bad,))
    assert run(connection, attempts=2) == 2
    later = connection.execute(
        "SELECT notification_id::text AS id, attempts, due_at > now() AS later FROM outbox"
    ).fetchall()
    assert later == [{"id": bad, "attempts": 1, "later": True}]
    connection.execute("UPDATE outbox SET due_at = now()")
    assert run(connection, attempts=2) == 1
    (parked,) = list_parked(database_url)
    assert (parked["id"], parked["attempts"], "inbox_user_name" in parked["reason"]) == (bad, 2, True)

    connection.execute("""UPDATE notification SET audience = '{"user": "a"}' WHERE id = %s""", (bad,))
    assert replay_parked(database_url, [str(uuid.uuid4())]) == 0
    assert replay_parked(database_url, [bad]) == 1
    assert run(connection) == 1
    delivered = connection.execute("SELECT notification_id::text AS id FROM delivery ORDER BY delivered_at").fetchall()
    assert [row["id"] for row in delivered] == [good, bad]
    assert (count(connection, "parked"), count(connection, "outbox")) == (0, 0)


@pytest.mark.parametrize("audience", ['{"user": "a"}', '{"topic": "t"}'])
def test_a_row_that_the_code_stumbles_over_is_parked_and_its_neighbours_go_on(
    audience: str, connection: Connection
) -> None:
    connection.execute("INSERT INTO preference (tenant, user_id, body) VALUES ('default', 'a', '[]')")
    connection.execute("INSERT INTO topic_subscription (tenant, topic, user_id) VALUES ('default', 't', 'a')")
    (bad,) = ingest(connection, "a")
    connection.execute("UPDATE notification SET audience = %s::jsonb WHERE id = %s", (audience, bad))
    ingest(connection, "b")
    for _ in range(3):
        run(connection, attempts=2)
        connection.execute("UPDATE outbox SET due_at = now()")
    assert (count(connection, "delivery"), count(connection, "outbox")) == (1, 0)
    (parked,) = connection.execute("SELECT notification_id::text AS id, attempts, reason FROM parked").fetchall()
    assert (parked["id"], parked["attempts"], parked["reason"].startswith("TypeError")) == (bad, 2, True)


def test_one_that_nobody_can_be_told_of_holds_up_no_batch_that_is_done_row_by_row(connection: Connection) -> None:
    connection.execute("INSERT INTO preference (tenant, user_id, body) VALUES ('default', 'a', '[]')")
    preferences = PreferencesIn(locale="uk").model_dump_json()
    connection.execute("INSERT INTO preference (tenant, user_id, body) VALUES ('default', 'c', %s)", [preferences])
    bad = [*ingest(connection, "a"), *ingest(connection, "c")]
    connection.execute("""UPDATE notification SET texts = '{"uk": 1}' WHERE id = %s""", [bad[1]])
    ingest(connection, "b")
    run(connection, attempts=1)
    assert (count(connection, "delivery"), count(connection, "outbox")) == (1, 0)
    parked = connection.execute("SELECT notification_id::text AS id FROM parked").fetchall()
    assert {row["id"] for row in parked} == set(bad)


def test_preferences_that_somebody_holds_are_waited_for_in_order(connection: Connection, database_url: str) -> None:
    connection.execute("INSERT INTO preference (tenant, user_id, body) VALUES ('default', 'b', '[]')")
    (first,) = ingest(connection, "a")
    ingest(connection, "b")
    (last,) = ingest(connection, "a")
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE preference")
        connection.execute("SET lock_timeout = '50ms'")
        batch = dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=1)
        assert (batch.claimed, batch.delivered, batch.full) == (0, 0, True)
    run(connection, attempts=1)
    assert (count(connection, "delivery"), count(connection, "parked")) == (2, 1)
    rows = connection.execute("SELECT notification_id::text AS id FROM delivery ORDER BY seq").fetchall()
    assert [row["id"] for row in rows] == [first, last]


def test_a_transaction_that_dies_leaves_everything_as_it_was(connection: Connection, worker: Resources) -> None:
    ingest(connection, "a", 3)
    victim = worker.postgres()

    def die_before_the_commit() -> None:
        with victim.transaction():
            dispatch_batch(victim, Priority.NORMAL, limit=500, attempts=5)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        die_before_the_commit()
    assert (count(connection, "outbox"), count(connection, "delivery"), count(connection, "inbox")) == (3, 0, 0)


def test_large_audiences_are_cut_into_bounded_transactions(connection: Connection) -> None:
    users = [f"u_{nth}" for nth in range(1_000)]
    for _ in range(7):
        (key,) = ingest(connection, "a")
        audience = orjson.dumps({"users": users}).decode()
        connection.execute("UPDATE notification SET audience = %s::jsonb WHERE id = %s", (audience, key))
    assert run(connection) == 5
    assert run(connection) == 2
    assert count(connection, "delivery") == 7_000


def test_the_task_works_until_nothing_is_due_and_pushes_to_the_nodes_that_hold_a_user(
    connection: Connection, worker: Resources
) -> None:
    bus = worker.redis
    bus.zadd(redis_keys.NODES, {"here": 9e12, "dead": 9e12})
    bus.sadd(redis_keys.holdings("here"), "default/a")
    bus.sadd(redis_keys.holdings("dead"), "default/a", "default/b")
    with bus.pubsub() as channel:
        channel.subscribe(redis_keys.node_channel("here"))
        assert channel.get_message(timeout=5)
        ingest(connection, "a", 2)
        ingest(connection, "b")
        bus.set(redis_keys.hint_outstanding("normal"), 1)
        assert dispatch_until_idle(worker, Priority.NORMAL, nobody) is False
        message = channel.get_message(timeout=5)
    assert message is not None
    assert [(push.key, push.first, push.last) for push in decode(message["data"])[1]] == [("default/a", 1, 2)]
    assert bus.zrange(redis_keys.NODES, 0, -1) == [b"here"], "a node that nobody listens for is forgotten"
    assert not bus.exists(redis_keys.hint_outstanding("normal")), "the next commit may hint again"


def test_without_redis_dispatch_goes_on(connection: Connection, worker: Resources) -> None:
    worker.redis.connection_pool.connection_kwargs["port"] = 1
    worker.redis.connection_pool.disconnect()
    ingest(connection, "a")
    assert dispatch_until_idle(worker, Priority.NORMAL, nobody) is False
    assert (count(connection, "outbox"), count(connection, "delivery")) == (0, 1)


def test_somebody_who_holds_an_inbox_holds_up_nobody_else(connection: Connection, worker: Resources) -> None:
    ingest(connection, "a")
    ingest(connection, "b")
    run(connection)
    first, second = ingest(connection, "a"), ingest(connection, "a")
    ingest(connection, "b")
    holder = worker.postgres()
    connection.execute("SET lock_timeout = '50ms'")
    with holder.transaction():
        holder.execute("SELECT 1 FROM inbox WHERE user_id = 'a' FOR UPDATE")
        batch = dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=1)
        assert (batch.claimed, batch.full) == (1, True)
    assert run(connection) == 2
    assert count(connection, "parked") == 0
    rows = connection.execute("""
        SELECT notification_id::text AS id FROM delivery d JOIN inbox i ON i.id = d.inbox_id
        WHERE user_id = 'a' ORDER BY seq""").fetchall()
    assert [row["id"] for row in rows][1:] == [*first, *second]


def test_a_bad_row_among_large_ones_does_not_make_one_huge_transaction(connection: Connection) -> None:
    users = orjson.dumps({"users": [f"u_{nth}" for nth in range(1_000)]}).decode()
    for nth in range(8):
        (key,) = ingest(connection, "a")
        audience = users if nth else '{"nobody": 1}'
        connection.execute("UPDATE notification SET audience = %s::jsonb WHERE id = %s", (audience, key))
    batch = dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5)
    assert (batch.delivered, batch.full) == (5_000, True)
    assert run(connection) == 2
    assert count(connection, "parked") == 1
