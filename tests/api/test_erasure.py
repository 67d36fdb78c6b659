"""Erasing a user: nothing of theirs is left but when it happened, whatever is under way and wherever it breaks off."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from models.audit import audit
from models.contracts import EraseOut, InboxPage
from models.database import Database, connect
from models.erasure import COUNTED, erase
from models.errors import UnavailableError
from models.keys import create_key
from models.parked import replay_parked
from models.presence import PresenceStore
from models.queries import dispatch as dispatch_sql
from models.queries import erase as sql
from models.revocations import Revocations
from models.states import Priority
from models.token_locales import TokenLocales
from models.tokens import UserToken
from tests.api.test_listing import send
from tests.api.test_notifications import problem
from tests.api.test_preferences import set_for
from tests.api.test_recipients import dispatched
from tests.api.test_topics import TOPIC, changed
from tests.api.test_users import bearing
from tests.conftest import as_user, in_a_while, notification, waits_for_a_lock
from tests.socket_server.conftest import eventually
from tests.workers.test_fan_out import broadcast, finish, names, outbox, reached, step, subscribe

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
    connection.execute("UPDATE inbox SET acked_seq = last_seq")
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


# --- what goes, and what stays ---------------------------------------------------------------------------------------


async def test_nothing_is_left_of_a_user_but_when_it_was(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    assert traces(connection) == {
        *("broadcast", "inbox", "notification", "preference", "presence", "suppression", "topic_subscription")
    }
    assert await erased(backend) == ERASED
    assert traces(connection) == {"revocation"}
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


async def test_two_whom_the_same_notifications_name_can_go_at_once(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    users = [f"u_{nth}" for nth in range(4)]
    for nth in range(20):
        await send(backend, to={"users": users if nth % 2 else users[::-1]})
    await dispatched(worker)
    found = await asyncio.gather(*(erased(backend, user) for user in users))
    assert sum(counts["deliveries"] for counts in found) == 80
    assert sum(counts["notifications"] for counts in found) == 20
    assert connection.execute("SELECT 1 FROM notification").fetchall() == []
    assert faults(database_url) == ()


@pytest.mark.parametrize("statement", ["TAKE_OUT_OF_AUDIENCES", "FORGET_WAITING", "FORGET_ENDED"])
async def test_notifications_are_locked_in_one_order_whatever_the_plan(
    statement: str, connection: Connection, database_url: str
) -> None:
    to = {"users": [GONE, "u_1"]} if statement == "TAKE_OUT_OF_AUDIENCES" else {"user": GONE}
    keys = sorted(broadcast(connection, to) for _ in range(20))

    def take_out() -> None:
        with connect(database_url) as other:
            for setting in ("enable_indexscan = off", "enable_seqscan = on"):
                other.execute(f"SET {setting}")  # type: ignore[arg-type]
            other.execute(getattr(sql, statement), {"tenant": "default", "user": GONE, "ids": keys})

    locked = "SELECT id FROM notification WHERE id = %s FOR UPDATE"
    with connection.transaction():
        connection.execute(locked, keys[:1])
        taking_out = asyncio.create_task(asyncio.to_thread(take_out))
        with connect(database_url) as watching:
            await eventually(lambda: waits_for_a_lock(watching))
            for key in keys[1:]:  # none of them is held by who waits for the first
                watching.execute(f"{locked} NOWAIT", [key])
    await taking_out


async def test_dispatchers_are_stopped_in_one_order_the_most_urgent_last(
    backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [GONE])
    stopped = (
        "SELECT l.objid::int AS rank FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        "WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted"
    )
    for urgent in (Priority.CRITICAL, Priority.HIGH):
        with connect(database_url) as dispatcher, dispatcher.transaction():
            dispatcher.execute(dispatch_sql.LOCK_PRIORITY, {"lock": dispatch_sql.LOCK_CLASS, "priority": urgent.rank})
            erasing = asyncio.create_task(erased(backend))
            await eventually(lambda: waits_for_a_lock(connection))
            ranks = {row["rank"] for row in connection.execute(stopped)}
            assert ranks == {each.rank for each in Priority if each.rank >= urgent.rank}
        await erasing


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


# --- in the middle of things -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
async def test_in_the_middle_of_a_broadcast_it_passes_them_by(
    to: dict[str, Any], backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    users = [f"{name}_x" for name in names(25)]
    subscribe(connection, users)
    for user in users:
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [user])
    key = broadcast(connection, to)
    await asyncio.to_thread(step, connection)
    told, on_the_edge, not_yet = users[3], users[9], users[20]
    for user, deliveries in ((told, 1), (on_the_edge, 1), (not_yet, 0)):
        assert (await erased(backend, user))["deliveries"] == deliveries
        assert traces(connection, user) == {"revocation"}
        assert faults(database_url) == ()
    subscribe(connection, [told, not_yet])  # who comes back meanwhile was not there when it became due
    for user in (told, not_yet):
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [user])
    await asyncio.to_thread(finish, connection)
    assert reached(connection, key) == [user for user in users if user not in {told, on_the_edge, not_yet}]
    assert faults(database_url) == ()


@pytest.mark.parametrize("mutes", [False, True])
@pytest.mark.parametrize("has_an_inbox", [False, True])
@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}, {"user": GONE}, {"users": ["u_1", GONE]}])
async def test_it_waits_for_a_dispatcher_that_is_about_to_deliver_to_them(
    to: dict[str, Any],
    has_an_inbox: bool,
    mutes: bool,
    backend: httpx.AsyncClient,
    connection: Connection,
    worker: Resources,
) -> None:
    subscribe(connection, [GONE])
    if has_an_inbox:
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [GONE])
    if mutes:
        await set_for(backend, GONE, mutes={"domains": ["blog"]})
    broadcast(connection, to)
    dispatcher = worker.postgres()
    with dispatcher.transaction():
        step(dispatcher)
        erasing = asyncio.create_task(erased(backend))
        await eventually(lambda: connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())
        assert not erasing.done()
    counts = await erasing
    theirs = int(has_an_inbox or "everyone" not in to)
    assert (counts["deliveries"], counts["suppressions"]) == ((0, theirs) if mutes else (theirs, 0))
    assert traces(connection) == {"revocation"}
    assert faults(worker.settings.database_url) == ()


async def test_under_load_whoever_is_erased_is_gone_and_the_rest_is_in_order(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    users = [f"u_{nth:03}_x" for nth in range(300)]
    subscribe(connection, users)
    gone = users[::60]
    for nth in range(30):
        items = [notification(to={"users": [*gone[:3], f"other_{nth}"]}), notification(user=gone[nth % 5])]
        items += [notification(to={"topic": TOPIC}), notification(to={"everyone": True})]
        await backend.post("/v1/notifications/bulk", json={"notifications": items})

    def dispatch() -> None:
        while outbox(worker.postgres()):
            step(worker.postgres(), limit=500)

    dispatching = asyncio.create_task(asyncio.to_thread(dispatch))
    found = []
    for user in gone:
        left = outbox(connection)
        found.append(await erased(backend, user))
        await eventually(
            lambda left=left: dispatching.done() or outbox(connection) < left
        )  # it is not held up for long
    await dispatching
    for user in gone:
        assert traces(connection, user) == {"revocation"}
    assert sum(counts["notifications"] for counts in found) == 30
    assert faults(database_url) == ()


# --- where it breaks off ---------------------------------------------------------------------------------------------


class Fuse(Database):
    """A database that is away after so many transactions, and audited after each."""

    left = 1_000
    audited = 0

    def _burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise UnavailableError

    def _audit(self) -> None:
        self.audited += 1
        assert faults(self.url) == ()

    async def rows(self, *asked: Any) -> list[dict[str, Any]]:
        self._burn()
        found = await super().rows(*asked)
        self._audit()
        return found

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        self._burn()
        async with super().transaction() as connection:
            yield connection
        self._audit()


@asynccontextmanager
async def opened(settings: Settings, kind: type[Database] = Database) -> AsyncIterator[Any]:
    database: Any = kind(settings.database_url, size=2)
    database.url = settings.database_url
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNSUBSCRIBE_FROM_SOME", "ERASE_LOWEST_NUMBERS", "ERASE_SOME_SUPPRESSIONS"):
        assert str(sql.MOST_ROWS) in getattr(sql, name)
        monkeypatch.setattr(sql, name, getattr(sql, name).replace(str(sql.MOST_ROWS), "2"))
    for name in ("NAMED_IN_OUTBOX", "NAMED_IN_EVENTS"):
        monkeypatch.setattr(sql, name, getattr(sql, name).replace("LIMIT 10000", "LIMIT 2"))
    monkeypatch.setattr(sql, "MOST_ROWS", 2)


@pytest.mark.usefixtures("in_small_pieces")
async def test_wherever_it_is_killed_everything_is_in_order(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, settings: Settings, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    async with opened(settings, Fuse) as database:
        await erase(database, Revocations(database), "default", GONE)
        assert database.audited >= 20
    assert traces(connection) == {"revocation"}


@pytest.mark.usefixtures("in_small_pieces")
async def test_one_that_breaks_off_again_and_again_comes_to_its_end(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, settings: Settings, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    async with opened(settings, Fuse) as database:
        for database.left in range(1, 200):
            try:
                await erase(database, Revocations(database), "default", GONE)
            except UnavailableError:
                continue
            break
    assert database.left >= 0
    assert traces(connection) == {"revocation"}


@pytest.mark.usefixtures("in_small_pieces")
async def test_in_pieces_it_erases_as_much(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    assert await erased(backend) == ERASED
    assert traces(connection) == {"revocation"}


async def test_a_deep_inbox_is_erased_bit_by_bit_and_others_get_their_turn(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, settings: Settings, database_url: str
) -> None:
    await send(backend, to={"users": [GONE, "u_1"]})
    await dispatched(worker)
    connection.execute(
        "WITH said AS (INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience) "
        "SELECT gen_random_uuid(), 'default', 'a.b', 'a', 2, '', '', '{}', jsonb_build_object('user', %s::text) "
        "FROM generate_series(1, 9000) RETURNING id) "
        "INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority) "
        "SELECT (SELECT id FROM inbox WHERE user_id = %s), 1 + row_number() OVER (), id, 'a', 'a.b', 2 FROM said",
        [GONE, GONE],
    )
    connection.execute("UPDATE inbox SET last_seq = 9001, unread = 9001, unseen = 9001 WHERE user_id = %s", [GONE])
    assert faults(database_url) == ()
    floors = []

    class Watched(Database):
        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[Any]:
            async with super().transaction() as own:
                yield own
            with connect(database_url) as other:  # nobody holds the inbox between two pieces
                rows = other.execute("SELECT floor_seq FROM inbox WHERE user_id = %s FOR UPDATE NOWAIT", [GONE])
                floors.extend(row["floor_seq"] for row in rows)

    async with opened(settings, Watched) as database:
        counts, _ = await erase(database, Revocations(database), "default", GONE)
    assert floors[:6] == [0, 2000, 4000, 6000, 8000, 9001]  # first, digests are looked for
    assert (counts["deliveries"], counts["notifications"], counts["shared_notifications"]) == (9001, 9000, 1)
    assert faults(database_url) == ()


async def test_what_retention_kept_below_the_floor_is_erased_bit_by_bit_too(
    connection: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ERASE_LOWEST_NUMBERS", sql.ERASE_LOWEST_NUMBERS.replace(str(sql.MOST_ROWS), "3"))
    for _ in range(10):
        broadcast(connection, {"user": GONE})
    finish(connection, 500)
    connection.execute("UPDATE inbox SET floor_seq = 9, last_seq = 10")
    steps = []

    class Watched(Database):
        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[Any]:
            async with super().transaction() as own:
                yield own
            rows = connection.execute("SELECT floor_seq, (SELECT count(*) FROM delivery) AS left FROM inbox").fetchall()
            steps.extend((row["floor_seq"], row["left"]) for row in rows)

    async with opened(settings, Watched) as database:
        await erase(database, Revocations(database), "default", GONE)
    assert steps == [(9, 10), (9, 7), (9, 4), (9, 1), (10, 0)], "first, digests are looked for"
    assert traces(connection) == {"revocation"}


# --- somebody who does not stop --------------------------------------------------------------------------------------


class Beset(Database):
    """A database to which somebody keeps sending: before each step of an erasure, one more of everything is there."""

    sent = 0

    def _send_more(self) -> None:
        self.sent += 1
        assert self.sent < 200, "the erasure does not end"
        with connect(self.url) as other:
            subscribe(other, [GONE], f"t:{self.sent}")
            for to in ({"user": GONE}, {"users": [GONE, "u_1"]}):
                broadcast(other, to, deliver_at=in_a_while())
            broadcast(other, {"user": GONE}, expires_at="2026-01-01T00:00:00Z")
            for nth in range(3):
                broadcast(other, {"user": GONE}, type="shop.order.shipped", domain="shop")  # blog is muted
                broadcast(other, {"user": GONE})
                broadcast(other, {"user": GONE}, type="a.b", domain="a", digest_every="1h", digest_key=str(nth))
            finish(other, 500)

    async def rows(self, *asked: Any) -> list[dict[str, Any]]:
        await asyncio.to_thread(self._send_more)
        return await super().rows(*asked)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        await asyncio.to_thread(self._send_more)
        async with super().transaction() as connection:
            yield connection


@pytest.mark.parametrize("pieces", ["whole", "in_small_pieces"])
async def test_it_ends_though_somebody_keeps_sending_to_whoever_has_the_name_next(
    pieces: str,
    backend: httpx.AsyncClient,
    worker: Resources,
    settings: Settings,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = worker.postgres()
    if pieces == "in_small_pieces":
        request.getfixturevalue(pieces)
        for name in ("NAMED_IN_OUTBOX", "NAMED_IN_EVENTS"):  # no faster than they are sent, two at a time
            monkeypatch.setattr(sql, name, getattr(sql, name).replace("LIMIT 2\n", "LIMIT 50\n"))
    await live(backend, worker, connection, settings.database_url)
    earlier = [row["id"] for row in connection.execute("SELECT id FROM notification WHERE audience ?| '{user,users}'")]
    async with opened(settings, Beset) as database:
        await erase(database, Revocations(database), "default", GONE)
    after_it_began = database.sent - 1
    named = "audience ->> 'user' = %(user)s OR audience -> 'users' ? %(user)s"
    (left,) = connection.execute(
        f"SELECT count(*) FILTER (WHERE id = ANY(%(earlier)s)) AS earlier, "
        f"count(*) FILTER (WHERE deliver_at IS NOT NULL) AS scheduled FROM notification WHERE {named}",
        {"user": GONE, "earlier": earlier},
    ).fetchall()
    assert left == {"earlier": 0, "scheduled": 2 * after_it_began}
    (kept,) = connection.execute("SELECT count(*) AS n FROM topic_subscription WHERE user_id = %s", [GONE]).fetchall()
    assert kept["n"] == after_it_began
    (box,) = connection.execute("SELECT floor_seq FROM inbox WHERE user_id = %s", [GONE]).fetchall()
    assert box["floor_seq"] == 0, "it is a new one"
    assert faults(settings.database_url) == ()
