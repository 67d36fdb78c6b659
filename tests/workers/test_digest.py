"""Digests: one open batch for each recipient and key, which arrives once, whole and in order, and never opens again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import pytest

from models import digest_closing
from models.audit import audit
from models.contracts import PreferencesIn
from models.database import connect, transaction
from models.digest_closing import close_due
from models.digests import MOST_ITEMS
from models.fields import MAX_DATA_BYTES
from models.queries import digests as sql
from models.states import EXPIRED_IN_DIGEST, Priority
from tests.conftest import nobody, quiet_now
from tests.workers.test_fan_out import TOPIC, broadcast, finish, names, outbox, subscribe
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from models.database import Connection
    from workers.resources import Resources


def say(connection: Connection, title: str, to: dict[str, Any] | None = None, **more: Any) -> str:
    return broadcast(
        connection, to or {"user": "a"}, **{"title": title, "digest_every": "1h", "digest_key": "", **more}
    )


def open_digests(connection: Connection) -> list[tuple[str, str, int]]:
    """User, key, and how many are in it."""
    rows = connection.execute(
        "SELECT user_id, key, (SELECT count(*) FROM digest_entry WHERE digest_id = d.id) AS n FROM digest d "
        "WHERE closed_at IS NULL ORDER BY user_id, key"
    ).fetchall()
    return [(row["user_id"], row["key"], row["n"]) for row in rows]


def make_due(connection: Connection) -> None:
    connection.execute("UPDATE digest SET closes_at = now() WHERE closed_at IS NULL")


def close(connection: Connection) -> int:
    """Close all that is open, and let it arrive."""
    make_due(connection)
    closed = len(close_due(connection, 100))
    for priority in (Priority.NORMAL, Priority.LOW):
        while dispatch_batch(connection, priority, limit=500, attempts=2).claimed:
            pass
    return closed


def arrived(connection: Connection, user: str = "a") -> list[dict[str, Any]]:
    """What the user's inbox has, oldest first."""
    return connection.execute(
        "SELECT n.id::text AS id, n.title, n.body, n.data, n.priority, n.actor, n.action_url, d.silent "
        "FROM delivery d JOIN notification n ON n.id = d.notification_id JOIN inbox i ON i.id = d.inbox_id "
        "WHERE i.user_id = %s ORDER BY d.seq",
        [user],
    ).fetchall()


def titles(connection: Connection, user: str = "a") -> list[list[str]]:
    return [[item["title"] for item in each["data"]["items"]] for each in arrived(connection, user)]


def prefer(connection: Connection, user: str, **said: Any) -> None:
    body = PreferencesIn.model_validate(said).model_dump()
    connection.execute(
        "INSERT INTO preference (tenant, user_id, body) VALUES ('default', %s, %s)", [user, orjson.dumps(body).decode()]
    )


# --- gathering -------------------------------------------------------------------------------------------------------


def test_what_gathers_is_not_delivered_and_arrives_as_one_in_order(connection: Connection, database_url: str) -> None:
    said = [
        say(connection, f"t{nth}", body=f"b{nth}", data={"nth": nth}, actor={"id": f"u_{nth}"}, action_url=f"/{nth}")
        for nth in range(3)
    ]
    (batch,) = finish(connection, limit=500)
    assert (batch.delivered, batch.gathered, batch.dispatched, batch.pushes) == (0, 3, 3, [])
    assert open_digests(connection) == [("a", "", 3)]
    assert arrived(connection) == []
    assert audit(database_url, 10).counts["dispatched"] == 3
    assert close_due(connection, 100) == []  # its time has not come
    assert close(connection) == 1
    (item,) = arrived(connection)
    assert (item["title"], item["body"], item["action_url"], item["actor"]) == ("t2", "b2", "/2", {"id": "u_2"})
    assert (item["data"]["count"], item["data"]["more"]) == (3, 0)
    assert [each["id"] for each in item["data"]["items"]] == said
    first = item["data"]["items"][0]
    assert datetime.fromisoformat(first.pop("created_at")).tzinfo is not None
    assert first == {
        "id": said[0],
        "title": "t0",
        "body": "b0",
        "data": {"nth": 0},
        "action_url": "/0",
        "actor": {"id": "u_0"},
    }
    assert audit(database_url, 10).faults == 0


def test_each_recipient_type_and_key_has_a_digest_of_its_own(connection: Connection) -> None:
    say(connection, "1", {"users": ["a", "b"]})
    say(connection, "2", digest_key="k")
    say(connection, "3", type="blog.post.liked")
    say(connection, "at once", digest_every=None, digest_key=None)
    finish(connection, limit=500)
    assert open_digests(connection) == [("a", "", 1), ("a", "", 1), ("a", "k", 1), ("b", "", 1)]
    assert [each["title"] for each in arrived(connection)] == ["at once"]
    assert close(connection) == 4


def test_the_first_entry_says_when_it_closes_and_the_most_urgent_how_urgent_it_is(connection: Connection) -> None:
    say(connection, "1", priority=Priority.LOW.rank)
    dispatch_batch(connection, Priority.LOW, limit=10, attempts=2)
    say(connection, "2", digest_every="2d")
    finish(connection)
    (row,) = connection.execute("SELECT opened_at, closes_at FROM digest").fetchall()
    assert row["closes_at"] - row["opened_at"] == timedelta(hours=1)
    close(connection)
    assert [(each["priority"], len(each["data"]["items"])) for each in arrived(connection)] == [
        (Priority.NORMAL.rank, 2)
    ]


def test_many_at_once_fill_one_digest_and_nothing_gets_lost(
    connection: Connection, worker: Resources, database_url: str
) -> None:
    def speak(nth: int) -> None:
        with connect(database_url) as mine:
            for each in range(10):
                say(mine, f"{nth}/{each}", priority=Priority.NORMAL.rank + nth % 2)
            for priority in (Priority.NORMAL, Priority.LOW):
                dispatch_batch(mine, priority, limit=7, attempts=5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(speak, range(16)))
    for priority in (Priority.NORMAL, Priority.LOW):
        dispatch_until_idle(worker, priority, nobody)
    assert open_digests(connection) == [("a", "", 160)]
    assert close(connection) == 1
    (item,) = arrived(connection)
    assert (item["data"]["count"], len(item["data"]["items"]), item["data"]["more"]) == (160, 50, 110)


def test_while_many_speak_and_many_close_each_arrives_once_and_no_digest_opens_again(
    connection: Connection, database_url: str
) -> None:
    speaking = threading.Event()

    def speak(nth: int) -> None:
        with connect(database_url) as mine:
            for each in range(20):
                say(mine, f"{nth}/{each}", {"users": ["a", "b"]})
                dispatch_batch(mine, Priority.NORMAL, limit=50, attempts=5)

    def keep_closing(_: int) -> None:
        with connect(database_url) as mine:
            while not speaking.is_set():
                make_due(mine)
                close_due(mine, 10)

    with ThreadPoolExecutor(8) as pool:
        closing = [pool.submit(keep_closing, nth) for nth in range(2)]
        list(pool.map(speak, range(6)))
        speaking.set()
        for each in closing:
            each.result()
    finish(connection, limit=500)
    close(connection)
    for user in ("a", "b"):
        told = [title for each in titles(connection, user) for title in each]
        assert sorted(told) == sorted(f"{nth}/{each}" for nth in range(6) for each in range(20))
    assert len(arrived(connection)) > 1
    assert audit(database_url, 10).some == ()


def test_whoever_mutes_it_has_it_in_no_digest(connection: Connection, database_url: str) -> None:
    prefer(connection, "a", mutes={"types": ["blog.post.published"]})
    say(connection, "1", {"users": ["a", "b"]})
    (batch,) = finish(connection)
    assert (batch.gathered, batch.suppressed) == (1, 1)
    assert open_digests(connection) == [("b", "", 1)]
    assert audit(database_url, 10).faults == 0


def test_whoever_mutes_it_while_it_waits_does_not_get_it(connection: Connection) -> None:
    say(connection, "1")
    finish(connection)
    prefer(connection, "a", mutes={"domains": ["blog"]})
    close(connection)
    assert arrived(connection) == []
    (row,) = connection.execute("SELECT count(*) AS n FROM suppression").fetchall()
    assert row["n"] == 1


def test_in_quiet_hours_it_arrives_silently_and_in_the_users_language(connection: Connection) -> None:
    prefer(connection, "a", quiet_hours=quiet_now(), locale="uk")
    say(connection, "one", texts={"en": {"title": "one", "body": ""}, "uk": {"title": "один", "body": ""}})
    finish(connection)
    close(connection)
    assert [each["silent"] for each in arrived(connection)] == [True]
    assert titles(connection) == [["один"]]


@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
def test_a_broadcast_waits_in_the_digests_of_all(to: dict[str, Any], connection: Connection, database_url: str) -> None:
    subscribe(connection, names(25))
    broadcast(connection, {"users": names(25)})
    finish(connection)
    prefer(connection, "u_003", mutes={"types": ["blog.post.liked"]})
    for nth in range(2):
        say(connection, f"t{nth}", to, type="blog.post.liked")
    batches = finish(connection)
    assert (sum(batch.gathered for batch in batches), sum(batch.suppressed for batch in batches)) == (48, 2)
    assert sum(batch.delivered for batch in batches) == 0
    assert open_digests(connection) == [(user, "", 2) for user in names(25) if user != "u_003"]
    assert outbox(connection) == 0
    assert close(connection) == 24
    assert [item["title"] for item in arrived(connection, "u_007")[1]["data"]["items"]] == ["t0", "t1"]
    assert audit(database_url, 10).faults == 0


# --- what it becomes -------------------------------------------------------------------------------------------------


def test_it_lists_as_many_as_data_may_hold_and_says_how_many_more_there_are(connection: Connection) -> None:
    for nth in range(MOST_ITEMS + 5):
        say(connection, f"t{nth}", digest_key="many")
    for nth in range(20):
        say(connection, f"t{nth}", digest_key="large", data={"text": "x" * 2_000})
    say(connection, "t0", digest_key="one", body="b" * 4_000, data={"text": "x" * 16_000})
    say(connection, "t1", digest_key="one")
    finish(connection, limit=500)
    close(connection)
    found = arrived(connection)
    assert [(len(each["data"]["items"]), each["data"]["more"]) for each in found] == [(7, 13), (50, 5), (2, 0)]
    assert all(len(orjson.dumps(each["data"])) <= MAX_DATA_BYTES for each in found)
    assert [item["title"] for item in found[1]["data"]["items"]] == [f"t{nth}" for nth in range(MOST_ITEMS)]
    assert found[1]["title"] == f"t{MOST_ITEMS + 4}"
    assert [item["data"] for item in found[2]["data"]["items"]] == [{}, {}]


def test_what_has_expired_meanwhile_is_left_out_and_says_so(connection: Connection, database_url: str) -> None:
    gone = say(connection, "gone", expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    say(connection, "kept")
    say(connection, "gone, too", digest_key="k", expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    finish(connection, limit=500)
    connection.execute("UPDATE notification SET expires_at = now() WHERE expires_at IS NOT NULL")
    assert close(connection) == 2
    assert titles(connection) == [["kept"]]
    rules = connection.execute("SELECT notification_id::text AS id, rule FROM suppression").fetchall()
    assert {"id": gone, "rule": EXPIRED_IN_DIGEST} in rules
    assert len(rules) == 2
    assert open_digests(connection) == []
    assert audit(database_url, 10).faults == 0


def test_it_expires_with_the_last_of_its_entries(connection: Connection) -> None:
    ends = [datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2)]
    for nth, end in enumerate(ends):
        say(connection, f"t{nth}", expires_at=end.isoformat())
    say(connection, "for ever", digest_key="k")
    say(connection, "for an hour", digest_key="k", expires_at=ends[0].isoformat())
    finish(connection, limit=500)
    close(connection)
    rows = connection.execute(
        "SELECT n.expires_at, e.expires_at AS leaves_at FROM digest d JOIN notification n ON n.id = d.notification_id "
        "LEFT JOIN expiry e ON e.notification_id = n.id ORDER BY d.key"
    ).fetchall()
    assert [(row["expires_at"], row["leaves_at"]) for row in rows] == [(ends[1], ends[1]), (None, None)]


def be_killed_while_closing(database_url: str) -> None:
    """Do all of it, and lose the connection before the commit."""
    with connect(database_url) as mine, transaction(mine):
        assert len(close_due(mine, 10)) == 1
        mine.execute("SELECT pg_terminate_backend(pg_backend_pid())")


# --- closing ---------------------------------------------------------------------------------------------------------


def test_a_crash_while_it_closes_leaves_it_open_and_it_is_closed_later(
    connection: Connection, worker: Resources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(connection, "1")
    finish(connection)
    make_due(connection)

    def crash(_: object) -> None:
        raise psycopg.InternalError

    with monkeypatch.context() as broken:
        broken.setattr(digest_closing, "_written", crash)
        with pytest.raises(psycopg.InternalError):
            close_due(connection, 10)
    assert open_digests(connection) == [("a", "", 1)]
    with pytest.raises(psycopg.errors.AdminShutdown):
        be_killed_while_closing(database_url)
    assert (open_digests(connection), outbox(connection)) == ([("a", "", 1)], 0)
    assert len(close_due(connection, 10)) == 1
    assert (open_digests(connection), outbox(connection)) == ([], 1)
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    assert titles(connection) == [["1"]]
    assert close_due(connection, 10) == []
    assert outbox(connection) == 0


def test_what_comes_while_it_closes_waits_in_the_next(connection: Connection, database_url: str) -> None:
    say(connection, "1")
    finish(connection)
    make_due(connection)
    say(connection, "2")

    def add() -> None:
        with connect(database_url) as mine:
            finish(mine)

    with ThreadPoolExecutor(1) as pool:
        with transaction(connection):
            assert len(close_due(connection, 10)) == 1
            adding = pool.submit(add)
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'digest_entry'"
            while not connection.execute(waits).fetchall():
                assert not adding.done()
                connection.execute("SELECT pg_stat_clear_snapshot()")
        adding.result()
    assert open_digests(connection) == [("a", "", 1)]
    close(connection)
    assert titles(connection) == [["1"], ["2"]]


def test_one_that_somebody_adds_to_is_closed_by_a_later_sweep(connection: Connection, database_url: str) -> None:
    say(connection, "1")
    finish(connection)
    make_due(connection)
    say(connection, "2")
    with connect(database_url) as other, transaction(connection):
        finish(connection)
        assert close_due(other, 10) == []
    assert close(connection) == 1
    assert titles(connection) == [["1", "2"]]


def test_a_closed_one_cannot_be_closed_again(connection: Connection) -> None:
    say(connection, "1")
    finish(connection)
    ids = {"digests": [row["id"] for row in connection.execute("SELECT id FROM digest").fetchall()]}
    assert close(connection) == 1
    rows = connection.execute(sql.read_digests(MOST_ITEMS), ids).fetchall()
    connection.execute(sql.CLOSE_IF_OPEN, digest_closing._written(digest_closing.compose(rows)))
    assert outbox(connection) == 0
    assert len(arrived(connection)) == 1
