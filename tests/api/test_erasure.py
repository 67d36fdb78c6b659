"""Erasing a user: nothing of theirs is left but when it happened, and others keep what they have."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from models.audit import audit
from models.contracts import EraseOut, InboxPage
from models.database import Database
from models.erasure import COUNTED, erase
from models.keys import create_key
from models.parked import replay_parked
from models.presence import PresenceStore
from models.revocations import Revocations
from models.token_locales import TokenLocales
from models.tokens import UserToken
from tests.api.test_listing import send
from tests.api.test_notifications import problem
from tests.api.test_preferences import set_for
from tests.api.test_recipients import dispatched
from tests.api.test_topics import TOPIC, changed
from tests.api.test_users import bearing
from tests.conftest import ack, as_user, in_a_while

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources

GONE = "u_gone"
NOTHING = dict.fromkeys(COUNTED, 0)


async def erased(backend: httpx.AsyncClient, user: str = GONE) -> dict[str, int]:
    response = await backend.delete(f"/v1/users/{user}")
    assert response.status_code == 200, response.text
    answer = EraseOut.model_validate_json(response.content)
    assert answer.user == user
    return answer.erased.model_dump()


def traces(connection: Connection, user: str = GONE) -> set[str]:
    """The tables in which some column, of whatever kind, has the user's name in it."""
    tables = connection.execute(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    ).fetchall()
    found = set()
    for table in (row["name"] for row in tables):
        (row,) = connection.execute(
            f"SELECT count(*) AS n FROM {table} t WHERE strpos(t::text, %s) > 0",  # type: ignore[arg-type]
            [user],
        ).fetchall()
        if row["n"]:
            found.add(table)
    return found


def faults(database_url: str) -> tuple[tuple[str, str], ...]:
    return audit(database_url, 20).some


async def live(backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str) -> None:
    """Leave the user's name wherever there is a place for it."""
    alone, both = {"user": GONE}, {"users": ["u_1", GONE]}
    await changed(backend, ["u_1", GONE])
    for to in (alone, both, {"topic": TOPIC}, alone, {"everyone": True}):
        await send(backend, to=to)
    await dispatched(worker)
    await backend.post("/v1/inbox/actions", json={"action": "read", "seqs": [1, 3]}, headers=as_user(GONE))
    await backend.post("/v1/inbox/actions", json={"action": "archive", "seqs": [2]}, headers=as_user(GONE))
    await backend.delete("/v1/inbox/3", headers=as_user(GONE))
    ack(connection, **{GONE: 2})
    ack(connection, **{GONE: 7, "u_1": 7})
    await set_for(backend, GONE, mutes={"domains": ["blog"]})
    for to in (alone, both):
        await send(backend, to=to, type="blog.post.published")
        await send(backend, to=to, expires_at="2026-01-01T00:00:00Z")
    await dispatched(worker)
    keys = [await send(backend, to=to, priority="low") for to in (alone, both)]
    connection.execute(
        "WITH gone AS (DELETE FROM outbox RETURNING notification_id) "
        "INSERT INTO parked (notification_id, priority, attempts, reason) SELECT notification_id, 3, 1, '' FROM gone"
    )
    assert replay_parked(database_url, keys) == 2  # it leaves an event
    connection.execute(
        "WITH gone AS (DELETE FROM outbox RETURNING notification_id) "
        "INSERT INTO parked (notification_id, priority, attempts, reason) SELECT notification_id, 3, 1, '' FROM gone"
    )
    for to in (alone, both, {"users": [GONE]}):
        await send(backend, to=to, deliver_at=in_a_while())
    connection.execute("INSERT INTO presence VALUES ('default', %s, now())", [GONE])


ERASED = {
    "deliveries": 5,
    "changes": 3,
    "notifications": 2 + 1 + 1 + 1 + 2,  # delivered, suppressed, expired, parked, scheduled
    "shared_notifications": 5,
    "suppressions": 2,
    "digests": 0,
    "subscriptions": 1,
    "preferences": 1,
}


@asynccontextmanager
async def opened(settings: Settings, kind: type[Database] = Database) -> AsyncIterator[Any]:
    database: Any = kind(settings.database_url, size=2)
    database.url = settings.database_url
    await database.open()
    yield database
    await database.close()


async def test_nothing_is_left_of_a_user_but_when_it_was(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    assert traces(connection) == {
        *("broadcast", "inbox", "notification", "preference", "presence", "suppression", "topic_subscription")
    }
    acks = "SELECT user_id, seq FROM ack LEFT JOIN inbox ON id = inbox_id ORDER BY 1, 2"
    assert [tuple(row.values()) for row in connection.execute(acks)] == [("u_1", 3), (GONE, 2), (GONE, 7)]
    assert await erased(backend) == ERASED
    assert traces(connection) == {"revocation"}
    assert [tuple(row.values()) for row in connection.execute(acks)] == [("u_1", 3)]
    assert faults(database_url) == ()
    assert await erased(backend) == NOTHING
    assert traces(connection) == {"revocation"}


async def test_others_keep_what_they_have(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('other', %s)", [GONE])
    connection.execute("INSERT INTO preference VALUES ('other', %s, '{}')", [GONE])
    connection.execute("INSERT INTO topic_subscription VALUES ('other', 't', %s)", [GONE])
    await live(backend, worker, connection, database_url)
    before = (await backend.get("/v1/users/u_1/inbox?status=all")).content
    await erased(backend)
    assert (await backend.get("/v1/users/u_1/inbox?status=all")).content == before
    assert traces(connection) == {"revocation", "inbox", "preference", "topic_subscription"}
    rows = connection.execute("SELECT audience FROM notification WHERE audience ? 'users'").fetchall()
    assert [row["audience"] for row in rows] == [{"users": ["u_1"]}] * 5
    connection.execute("UPDATE outbox SET due_at = now()")
    replay_parked(database_url, None)
    await dispatched(worker)
    assert traces(connection) == {"revocation", "inbox", "preference", "topic_subscription"}
    assert faults(database_url) == ()


async def test_older_tokens_are_refused_and_a_new_one_sees_a_new_inbox(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    older = as_user(GONE)
    await send(backend, to={"user": GONE})
    await dispatched(worker)
    assert (await erased(backend))["deliveries"] == 1
    refused = await backend.get("/v1/inbox", headers=older)
    assert (refused.status_code, problem(refused)["code"]) == (401, "token_revoked")
    newer = bearing((await backend.post("/v1/tokens", json={"user": GONE})).json()["token"])
    page = InboxPage.model_validate((await backend.get("/v1/inbox", headers=newer)).json())
    assert (page.items, page.seq, page.counts.unread) == ([], 0, 0)
    await send(backend, to={"user": GONE}, title="Welcome back")
    await dispatched(worker)
    page = InboxPage.model_validate((await backend.get("/v1/inbox", headers=newer)).json())
    assert [(item.seq, item.title) for item in page.items] == [(1, "Welcome back")]


async def test_sockets_that_end_because_of_it_leave_no_trace(settings: Settings, connection: Connection) -> None:
    now = datetime.now(UTC)
    async with opened(settings) as database:
        store = PresenceStore(database, None, settings)  # type: ignore[arg-type]
        revocations = Revocations(database)
        await erase(database, revocations, "default", GONE)
        await revocations.revoke("default", "u_1")
        await store.record((f"default/{user}", (now + timedelta(seconds=30)).timestamp()) for user in (GONE, "u_1"))
        assert traces(connection) == {"revocation"}
        assert await store.last_seen([("default", "u_1")]) != [None]
        await store.record([(f"default/{GONE}", (now + timedelta(minutes=2)).timestamp())])
        assert traces(connection) == {"revocation", "presence"}  # back, with a new token


async def test_the_language_they_came_with_goes_and_older_tokens_do_not_bring_it_back(
    settings: Settings, connection: Connection
) -> None:
    now = datetime.now(UTC)
    async with opened(settings) as database:
        locales = TokenLocales(database)
        tokens = [UserToken(GONE, "default", now, now + timedelta(hours=hours), locale="uk") for hours in (0, 1)]
        locales.note(tokens[0])
        await locales.write()
        assert traces(connection) == {"preference"}
        locales.note(tokens[0])
        await erase(database, Revocations(database), "default", GONE)
        await locales.write()
        assert traces(connection) == {"revocation"}
        locales.note(tokens[1])
        await locales.write()
        assert traces(connection) == {"revocation", "preference"}  # back, with a new token


async def test_it_needs_the_scope_and_a_name(backend: httpx.AsyncClient, database_url: str) -> None:
    _, key = create_key(database_url, tenant="default", scopes=["topics:write"], name="x")
    refused = await backend.delete(f"/v1/users/{GONE}", headers=bearing(key))
    assert (refused.status_code, problem(refused)["code"]) == (403, "forbidden")
    assert problem(await backend.delete("/v1/users/a%20b"))["code"] == "validation_failed"
    assert await erased(backend, "nobody") == NOTHING
