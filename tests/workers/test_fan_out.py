"""Broadcasts: everybody in the audience gets it once and in order, however often it is interrupted."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import pytest

from models.parked import replay_parked
from models.queries import ingest as ingest_sql
from models.queries import topics as topics_sql
from models.socket_events import InboxFrame
from models.states import Priority
from tests.conftest import nobody, waits_for_a_lock
from tests.models.test_log import ingest
from tests.socket_server.conftest import eventually
from workers.choose import FanOut, choose
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.database import Connection
    from workers.dispatch import Batch
    from workers.resources import Resources

LIMIT = 1  # rows to claim; a broadcast reaches ten times as many users in each batch
TOPIC = "blog:post:7"


def subscribe(connection: Connection, users: Sequence[str], topic: str = TOPIC, tenant: str = "default") -> None:
    connection.execute(topics_sql.SUBSCRIBE_IF_NEW, {"tenant": tenant, "topic": topic, "users": list(users)})


def names(how_many: int) -> list[str]:
    return [f"u_{nth:03}" for nth in range(how_many)]


def broadcast(connection: Connection, to: dict[str, Any], **more: Any) -> str:
    row = {
        "ord": 0,
        "id": str(uuid.uuid4()),
        "tenant": "default",
        "type": "blog.post.published",
        "domain": "blog",
        "priority": Priority.NORMAL.rank,
        "title": "t",
        "body": "",
        "data": {},
        "audience": to,
    }
    connection.execute(ingest_sql.INSERT_IF_NEW, {"rows": orjson.dumps([row | more]).decode()})
    return str(row["id"])


def step(connection: Connection, priority: Priority = Priority.NORMAL, limit: int = LIMIT) -> Batch:
    return dispatch_batch(connection, priority, limit=limit, attempts=2)


def finish(connection: Connection, limit: int = LIMIT) -> list[Batch]:
    batches = []
    while (batch := step(connection, limit=limit)).claimed:
        batches.append(batch)
    return batches


def reached(connection: Connection, notification_id: str) -> list[str]:
    """Who has it, in the order in which their turn came."""
    rows = connection.execute(
        "SELECT i.user_id FROM delivery d JOIN inbox i ON i.id = d.inbox_id WHERE d.notification_id = %s "
        "ORDER BY d.delivered_at, i.user_id",
        [notification_id],
    ).fetchall()
    return [row["user_id"] for row in rows]


def progress(connection: Connection) -> dict[str, Any]:
    (row,) = connection.execute("SELECT cursor, reached, done_at IS NOT NULL AS done FROM broadcast").fetchall()
    return row


def outbox(connection: Connection) -> int:
    (row,) = connection.execute("SELECT count(*) AS n FROM outbox").fetchall()
    return int(row["n"])


# --- who gets it -----------------------------------------------------------------------------------------------------


def test_whom_it_is_for_is_a_pure_decision() -> None:
    assert choose({"topic": "t"}, None, None) == FanOut("t")  # type: ignore[arg-type]
    assert choose({"everyone": True}, None, None) == FanOut(None)  # type: ignore[arg-type]
    assert choose({"topic": "t", "exclude_actor": True}, None, None, "u") == FanOut("t", "u")  # type: ignore[arg-type]


def test_each_subscriber_gets_it_once(connection: Connection) -> None:
    subscribe(connection, names(25))
    subscribe(connection, ["somebody_else"], "blog:post:8")
    subscribe(connection, ["a_stranger"], tenant="other")
    key = broadcast(connection, {"topic": TOPIC})
    batches = finish(connection)
    assert [batch.delivered for batch in batches] == [10, 10, 5]
    assert [batch.dispatched for batch in batches] == [0, 0, 1]
    assert reached(connection, key) == names(25)
    assert progress(connection) == {"cursor": "u_024", "reached": 25, "done": True}
    assert outbox(connection) == 0


def test_a_last_batch_that_is_full_is_followed_by_an_empty_one(connection: Connection) -> None:
    subscribe(connection, names(20))
    key = broadcast(connection, {"topic": TOPIC})
    assert [batch.delivered for batch in finish(connection)] == [10, 10, 0]
    assert reached(connection, key) == names(20)
    assert progress(connection) == {"cursor": "u_019", "reached": 20, "done": True}


def test_everyone_is_every_user_of_the_tenant_with_an_inbox(connection: Connection) -> None:
    for user in names(3):
        ingest(connection, user)
    connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('other', 'a_stranger')")
    finish(connection)
    key = broadcast(connection, {"everyone": True})
    finish(connection)
    assert reached(connection, key) == names(3)


def test_a_topic_without_subscribers_reaches_nobody_and_is_done(connection: Connection) -> None:
    broadcast(connection, {"topic": TOPIC})
    (batch,) = finish(connection)
    assert (batch.delivered, batch.dispatched, outbox(connection)) == (0, 1, 0)
    assert progress(connection) == {"cursor": "", "reached": 0, "done": True}


@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
def test_whoever_did_it_may_be_left_out(to: dict[str, Any], connection: Connection) -> None:
    subscribe(connection, names(12))
    for user in names(12):
        ingest(connection, user)
    finish(connection)
    key = broadcast(connection, to | {"exclude_actor": True}, actor={"id": "u_003"})
    assert [batch.delivered for batch in finish(connection)] == [9, 2]
    assert reached(connection, key) == [user for user in names(12) if user != "u_003"]


def test_who_subscribes_after_it_became_due_is_left_out_and_who_unsubscribes_before_their_turn_too(
    connection: Connection,
) -> None:
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC})
    step(connection)
    subscribe(connection, ["u_015b"])
    gone = {"tenant": "default", "topic": TOPIC, "users": ["u_000", "u_020"]}
    assert connection.execute(topics_sql.UNSUBSCRIBE, gone).fetchall() == [{"n": 2}]
    finish(connection)
    assert reached(connection, key) == [user for user in names(25) if user != "u_020"]


def test_who_gets_an_inbox_while_everyone_is_told_is_left_out(connection: Connection) -> None:
    for user in names(15):
        ingest(connection, user)
    finish(connection)
    key = broadcast(connection, {"everyone": True})
    step(connection)
    ingest(connection, "u_014b", priority=Priority.HIGH)
    assert step(connection, Priority.HIGH).delivered == 1
    finish(connection)
    assert reached(connection, key) == names(15)


def test_the_audience_of_what_is_scheduled_is_that_of_its_moment(connection: Connection) -> None:
    key = broadcast(connection, {"topic": TOPIC}, deliver_at="2100-01-01T00:00:00Z")
    assert not step(connection).claimed
    subscribe(connection, names(3))
    connection.execute("UPDATE outbox SET due_at = clock_timestamp()")
    finish(connection)
    assert reached(connection, key) == names(3)


# --- order -----------------------------------------------------------------------------------------------------------


def test_what_was_accepted_before_and_after_it_stays_before_and_after(connection: Connection) -> None:
    subscribe(connection, names(25))
    (before,) = ingest(connection, "u_020")
    key = broadcast(connection, {"topic": TOPIC})
    (after,) = ingest(connection, "u_020")
    finish(connection, limit=2)
    rows = connection.execute(
        "SELECT d.notification_id::text AS id FROM delivery d JOIN inbox i ON i.id = d.inbox_id "
        "WHERE i.user_id = 'u_020' ORDER BY d.seq"
    ).fetchall()
    assert [row["id"] for row in rows] == [before, key, after]


def test_what_is_more_urgent_does_not_wait_for_it(connection: Connection) -> None:
    subscribe(connection, names(25))
    broadcast(connection, {"topic": TOPIC})
    step(connection)
    ingest(connection, "u_020", priority=Priority.CRITICAL)
    assert step(connection, Priority.CRITICAL).delivered == 1


def test_each_is_pushed_a_frame_with_their_own_number(connection: Connection) -> None:
    ingest(connection, "u_001", 2)
    finish(connection)
    subscribe(connection, names(3))
    key = broadcast(connection, {"topic": TOPIC})
    (batch,) = finish(connection)
    frames = {push.key: orjson.loads(push.packet[1:])[1] for push in batch.pushes}
    for frame in frames.values():
        InboxFrame.model_validate(frame)
        assert frame["entries"][0]["item"]["id"] == key
    assert {user: frame["to"] for user, frame in frames.items()} == {
        "default/u_000": 1,
        "default/u_001": 3,
        "default/u_002": 1,
    }
    assert frames["default/u_001"]["counts"] == {"unread": 3, "unseen": 3}


# --- interruptions ---------------------------------------------------------------------------------------------------


def test_a_batch_that_dies_is_done_again_and_nobody_gets_it_twice(connection: Connection, worker: Resources) -> None:
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC})
    step(connection)
    victim = worker.postgres()

    def die_before_the_commit() -> None:
        with victim.transaction():
            step(victim)
            msg = "killed"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="killed"):
        die_before_the_commit()
    assert progress(connection) == {"cursor": "u_009", "reached": 10, "done": False}
    finish(connection)
    assert reached(connection, key) == names(25)


def test_an_inbox_that_somebody_holds_is_waited_for_in_order(connection: Connection, database_url: str) -> None:
    subscribe(connection, names(25))
    ingest(connection, "u_015")
    finish(connection)
    key = broadcast(connection, {"topic": TOPIC})
    (after,) = ingest(connection, "u_001")
    step(connection)
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM inbox WHERE user_id = 'u_015' FOR UPDATE")
        connection.execute("SET lock_timeout = '200ms'")
        batch = step(connection)
        assert (batch.claimed, batch.delivered, batch.full) == (0, 0, True)
    finish(connection)
    assert reached(connection, key) == names(25)
    assert reached(connection, after) == ["u_001"]


@pytest.mark.parametrize("in_a_circle", [False, True])
async def test_whoever_creates_one_of_the_inboxes_in_that_moment_is_waited_for_or_goes_first(
    in_a_circle: bool, connection: Connection, worker: Resources
) -> None:
    subscribe(connection, names(9))
    ingest(connection, "u_001")
    finish(connection)
    key = broadcast(connection, {"topic": TOPIC})
    other = worker.postgres()
    with other.transaction():
        other.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', 'u_005')")
        dispatching = asyncio.create_task(asyncio.to_thread(finish, connection))
        await eventually(lambda: waits_for_a_lock(other))
        if in_a_circle:
            other.execute("SET LOCAL lock_timeout = '800ms'")  # before Postgres would look for circles
            await asyncio.to_thread(other.execute, "UPDATE inbox SET last_seq = last_seq WHERE user_id = 'u_001'")
    await dispatching
    assert reached(connection, key) == names(9)
    assert progress(connection)["reached"] == 9
    boxes = connection.execute("SELECT user_id, last_seq, unread FROM inbox ORDER BY user_id").fetchall()
    assert boxes == [
        {"user_id": user, "last_seq": 1 + (user == "u_001"), "unread": 1 + (user == "u_001")} for user in names(9)
    ]


def test_one_that_fails_for_good_is_parked_and_goes_on_where_it_was(connection: Connection, database_url: str) -> None:
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC})
    step(connection)
    connection.execute("ALTER TABLE inbox ADD CONSTRAINT refused CHECK (user_id <> 'u_015')")
    for _ in range(2):
        connection.execute("UPDATE outbox SET due_at = (SELECT created_at FROM notification)")
        step(connection)
    assert [row["id"] for row in connection.execute("SELECT notification_id::text AS id FROM parked")] == [key]
    connection.execute("ALTER TABLE inbox DROP CONSTRAINT refused")
    assert replay_parked(database_url, [key]) == 1
    finish(connection)
    assert reached(connection, key) == names(25)
    assert progress(connection)["reached"] == 25


def test_one_that_expires_on_the_way_stops_and_says_so(connection: Connection) -> None:
    subscribe(connection, names(25))
    key = broadcast(connection, {"topic": TOPIC})
    step(connection)
    connection.execute("UPDATE notification SET expires_at = now()")
    (batch,) = finish(connection)
    assert batch.expired == 1
    assert reached(connection, key) == names(10)
    events = connection.execute("SELECT event FROM notification_event WHERE notification_id = %s", [key]).fetchall()
    assert events == [{"event": "expired"}]


def test_a_dispatcher_does_all_of_it(connection: Connection, worker: Resources) -> None:
    subscribe(connection, [f"u_{nth}" for nth in range(12_000)])
    key = broadcast(connection, {"topic": TOPIC})
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    assert sorted(reached(connection, key)) == sorted(f"u_{nth}" for nth in range(12_000))
