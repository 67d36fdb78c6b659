"""What has a collapse key takes the place of what is unread of the same user, type and key, and the log replays."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from models.database import connect
from models.queries import dispatch as dispatch_sql
from models.socket_events import InboxFrame
from models.states import FOLDED, OVERTAKEN, Action, Priority
from ops.prove.replica import Replica
from tests.conftest import nobody, waits_for_a_lock
from tests.models.test_log import fresh_read, replay, store
from tests.socket_server.conftest import eventually
from tests.workers.test_fan_out import TOPIC, broadcast, finish, names, outbox, reached, step, subscribe
from workers import fan_out
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources


def say(
    connection: Connection, title: str, to: dict[str, Any] | None = None, key: str | None = "k", **more: Any
) -> str:
    return broadcast(connection, to or {"user": "a"}, title=title, collapse_key=key, **more)


def shown(connection: Connection, user: str = "a") -> list[tuple[int, str, int]]:
    """Number, title and how many others each stands for, oldest first."""
    rows = connection.execute(
        "SELECT d.seq, n.title, d.collapsed FROM delivery d JOIN notification n ON n.id = d.notification_id "
        "JOIN inbox i ON i.id = d.inbox_id WHERE i.user_id = %s AND d.deleted_at IS NULL ORDER BY d.seq",
        [user],
    ).fetchall()
    return [(row["seq"], row["title"], row["collapsed"]) for row in rows]


def dispatch(connection: Connection, priority: Priority) -> None:
    while step(connection, priority).claimed:
        pass


def pass_an_hour(connection: Connection) -> None:
    """Let everything be as it was an hour ago."""
    connection.execute(
        "UPDATE notification SET created_at = created_at - interval '1 h', deliver_at = deliver_at - interval '1 h'"
    )
    connection.execute("UPDATE outbox SET due_at = due_at - interval '1 h'")


def counts(connection: Connection, user: str = "a") -> tuple[int, int, int]:
    (row,) = connection.execute("SELECT last_seq, unread, unseen FROM inbox WHERE user_id = %s", [user]).fetchall()
    return row["last_seq"], row["unread"], row["unseen"]


def test_the_newest_takes_the_place_of_what_is_unread(connection: Connection) -> None:
    for title in ("first", "second", "third"):
        say(connection, title)
        finish(connection)
    assert shown(connection) == [(5, "third", 2)]
    assert counts(connection) == (5, 1, 1)


@pytest.mark.parametrize(
    "other", [{"key": "another"}, {"key": None}, {"type": "blog.post.liked"}, {"to": {"user": "b"}}]
)
def test_only_the_same_user_type_and_key_collapse(other: dict[str, Any], connection: Connection) -> None:
    say(connection, "first")
    say(connection, "other", **other)
    finish(connection, limit=500)
    say(connection, "second")
    finish(connection)
    assert ("second", 1) in [(title, collapsed) for _, title, collapsed in shown(connection)]
    assert connection.execute("SELECT count(*) AS n FROM delivery WHERE deleted_at IS NULL").fetchall() == [{"n": 2}]


@pytest.mark.parametrize("action", [Action.READ, Action.ARCHIVE, Action.DELETE])
async def test_what_was_read_or_put_away_stays_as_it_is(
    action: Action, settings: Settings, connection: Connection
) -> None:
    say(connection, "first")
    finish(connection)
    async with store(settings) as inbox:
        await inbox.act("default", "a", [action], seqs=[1], up_to=None)
        say(connection, "second")
        finish(connection)
        titles = [(item["title"], item["collapsed"]) for item in await fresh_read(inbox, "a")]
    assert titles == [("second", 0)] if action is Action.DELETE else [("second", 0), ("first", 0)]


def test_of_one_batch_the_last_stands_for_all_and_the_others_say_so(connection: Connection) -> None:
    first = say(connection, "first")
    say(connection, "between", key=None)
    say(connection, "second")
    say(connection, "third")
    (batch,) = finish(connection, limit=500)
    assert (batch.delivered, batch.dispatched, batch.suppressed) == (2, 4, 2)
    assert shown(connection) == [(1, "between", 0), (2, "third", 2)]
    rules = connection.execute("SELECT notification_id::text AS id, rule FROM suppression").fetchall()
    assert len(rules) == 2
    assert {"id": first, "rule": FOLDED} in rules
    say(connection, "fourth")
    finish(connection)
    assert shown(connection) == [(1, "between", 0), (4, "fourth", 3)]


async def test_devices_are_told_in_one_frame_and_the_log_replays(settings: Settings, connection: Connection) -> None:
    say(connection, "first")
    say(connection, "other", key="other")
    finish(connection, limit=500)
    async with store(settings) as inbox:
        device = Replica()
        await replay(inbox, "a", device, 500)
        say(connection, "second")
        say(connection, "new", key=None)
        say(connection, "another", key="other")
        (batch,) = finish(connection, limit=500)
        (push,) = batch.pushes
        frame = orjson.loads(push.packet[1:])[1]
        InboxFrame.model_validate(frame)
        assert (frame["from"], frame["to"], push.first, push.last) == (3, 6, 3, 6)
        assert [entry["kind"] for entry in frame["entries"]] == ["change", "arrival", "arrival", "arrival"]
        assert frame["entries"][0]["seqs"] == [1, 2]
        assert frame["counts"] == {"unread": 3, "unseen": 3}
        device.apply(frame)
        late = Replica()
        await replay(inbox, "a", late, 2)
        assert device.newest_first() == late.newest_first() == await fresh_read(inbox, "a")
        assert [item["collapsed"] for item in device.newest_first()] == [1, 0, 1]


def test_across_priorities_it_is_one_row(connection: Connection) -> None:
    say(connection, "first", priority=Priority.LOW.rank)
    dispatch_batch(connection, Priority.LOW, limit=10, attempts=2)
    say(connection, "second", priority=Priority.CRITICAL.rank)
    dispatch_batch(connection, Priority.CRITICAL, limit=10, attempts=2)
    assert shown(connection) == [(3, "second", 1)]


@pytest.mark.parametrize("to", [{"user": "a"}, {"topic": TOPIC}])
def test_what_is_newer_keeps_its_place_whatever_comes_late(to: dict[str, Any], connection: Connection) -> None:
    subscribe(connection, ["a", "b"])
    older = say(connection, "older", to, priority=Priority.LOW.rank)
    say(connection, "newer", priority=Priority.CRITICAL.rank)
    dispatch(connection, Priority.CRITICAL)
    before = counts(connection)
    dispatch(connection, Priority.LOW)
    assert (shown(connection), counts(connection)) == ([(1, "newer", 0)], before)
    assert shown(connection, "b") == ([(1, "older", 0)] if "topic" in to else [])
    rows = connection.execute("SELECT notification_id::text AS id, user_id, rule FROM suppression").fetchall()
    assert rows == [{"id": older, "user_id": "a", "rule": OVERTAKEN}]
    say(connection, "newest", priority=Priority.LOW.rank)
    dispatch(connection, Priority.LOW)
    assert shown(connection) == [(3, "newest", 2)], "it stands for what was overtaken, too"


async def test_what_was_said_after_a_dispatcher_has_begun_keeps_its_place(
    connection: Connection, worker: Resources, database_url: str
) -> None:
    say(connection, "before")
    finish(connection)
    say(connection, "older", priority=Priority.LOW.rank)
    holder = worker.postgres()
    with connect(database_url) as late:
        with holder.transaction():
            lock = {"lock": dispatch_sql.LOCK_CLASS, "priority": Priority.LOW.rank}
            holder.execute(dispatch_sql.LOCK_PRIORITY, lock)
            dispatching = asyncio.create_task(asyncio.to_thread(dispatch, late, Priority.LOW))
            await eventually(lambda: waits_for_a_lock(connection))
            say(connection, "newer", priority=Priority.CRITICAL.rank)
            dispatch(connection, Priority.CRITICAL)
        await dispatching
    assert [title for _, title, _ in shown(connection)] == ["newer"]


def test_what_is_tried_again_does_not_take_the_place_of_what_is_newer(connection: Connection) -> None:
    for apart in (True, False):
        key = f"k{apart}"
        older = say(connection, "older", key=key)
        connection.execute(
            "UPDATE outbox SET attempts = 1, due_at = now() + interval '1 h' WHERE notification_id = %s", [older]
        )
        say(connection, "newer", key=key)
        if apart:
            finish(connection)
        connection.execute("UPDATE outbox SET due_at = now()")
        finish(connection, limit=500)
    assert [(title, collapsed) for _, title, collapsed in shown(connection)] == [("newer", 0), ("newer", 1)]


def test_what_was_scheduled_is_as_new_as_the_time_that_it_was_for(connection: Connection) -> None:
    key = say(connection, "scheduled", deliver_at=datetime.now(UTC) + timedelta(hours=1))
    say(connection, "at once")
    finish(connection)
    pass_an_hour(connection)
    finish(connection)
    assert shown(connection) == [(3, "scheduled", 1)]
    assert reached(connection, key) == ["a"]


@pytest.mark.parametrize("gone", ["expires_at = now()", "created_at = now() + interval '1 h'"])
def test_what_has_expired_or_is_of_a_time_to_come_keeps_no_place(gone: str, connection: Connection) -> None:
    say(connection, "older", priority=Priority.LOW.rank)
    newer = say(connection, "newer", priority=Priority.CRITICAL.rank)
    dispatch(connection, Priority.CRITICAL)
    connection.execute(f"UPDATE notification SET {gone} WHERE id = '{newer}'")
    dispatch(connection, Priority.LOW)
    assert shown(connection) == [(3, "older", 1)]


def test_a_broadcast_collapses_for_each_of_its_users(connection: Connection) -> None:
    subscribe(connection, names(25))
    for user in ("u_003", "u_014"):
        say(connection, "before", {"user": user})
    finish(connection)
    say(connection, "told to all", {"topic": TOPIC})
    batches = finish(connection)
    assert sum(batch.delivered for batch in batches) == 25
    assert shown(connection, "u_003") == [(3, "told to all", 1)]
    assert shown(connection, "u_004") == [(1, "told to all", 0)]
    frames = {push.key: orjson.loads(push.packet[1:])[1] for batch in batches for push in batch.pushes}
    assert [entry["kind"] for entry in frames["default/u_014"]["entries"]] == ["change", "arrival"]
    assert (frames["default/u_014"]["from"], frames["default/u_014"]["to"]) == (2, 3)
    assert frames["default/u_014"]["entries"][1]["item"]["collapsed"] == 1
    say(connection, "told again", {"topic": TOPIC})
    finish(connection)
    assert shown(connection, "u_003") == [(5, "told again", 2)]
    assert counts(connection, "u_003") == (5, 1, 1)


def test_whoever_unsubscribes_in_that_moment_keeps_what_they_have_or_gets_the_new_one(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(connection, names(3))
    say(connection, "before", {"topic": TOPIC})
    finish(connection)
    say(connection, "after", {"topic": TOPIC})
    take_places = fan_out.take_places

    def unsubscribed(*arguments: Any) -> Any:
        with connect(database_url) as other:
            other.execute("DELETE FROM topic_subscription WHERE user_id = 'u_001'")
        return take_places(*arguments)

    monkeypatch.setattr(fan_out, "take_places", unsubscribed)
    finish(connection)
    assert [shown(connection, user) for user in names(3)] == [[(3, "after", 1)]] * 3


def test_a_thousand_updates_by_many_at_once_leave_one_row_and_the_last_one_wins(
    connection: Connection, worker: Resources, database_url: str
) -> None:
    def update(nth: int) -> None:
        with connect(database_url) as mine:
            for each in range(50):
                say(mine, f"{nth}/{each}", priority=nth % 4)
            for priority in Priority:
                dispatch_batch(mine, priority, limit=20, attempts=5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(update, range(20)))
    for priority in Priority:
        dispatch_until_idle(worker, priority, nobody)
    ((_, newest, _),) = shown(connection)
    (row,) = connection.execute("SELECT title FROM notification ORDER BY created_at DESC LIMIT 1").fetchall()
    assert newest == row["title"]
    say(connection, "last")
    finish(connection)
    ((seq, title, collapsed),) = shown(connection)
    assert (title, collapsed, outbox(connection)) == ("last", 1_000, 0)
    assert counts(connection) == (seq, 1, 1)
    numbers = connection.execute(
        "SELECT seq FROM delivery UNION ALL SELECT seq FROM inbox_change ORDER BY seq"
    ).fetchall()
    assert [row["seq"] for row in numbers] == list(range(1, seq + 1))
