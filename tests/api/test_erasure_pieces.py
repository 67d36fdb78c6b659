"""An erasure goes piece by piece: it may break off anywhere, and it ends though somebody keeps sending."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from models.database import Database, connect
from models.erasure import erase
from models.errors import UnavailableError
from models.queries import erase as sql
from models.queries import retention as retention_sql
from models.revocations import Revocations
from tests.api.test_erasure import ERASED, GONE, erased, faults, live, opened, traces
from tests.api.test_listing import send
from tests.api.test_recipients import dispatched
from tests.conftest import as_user, in_a_while
from tests.workers.test_fan_out import broadcast, finish, subscribe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources


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


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNSUBSCRIBE_FROM_SOME", "ERASE_LOWEST_NUMBERS", "ERASE_SOME_SUPPRESSIONS"):
        assert str(sql.MOST_ROWS) in getattr(sql, name)
        monkeypatch.setattr(sql, name, getattr(sql, name).replace(str(sql.MOST_ROWS), "2"))
    for name in ("NAMED_IN_OUTBOX", "NAMED_IN_EVENTS", "NAMED_IN_NOTIFICATIONS"):
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


async def erase_bit_by_bit(settings: Settings) -> None:
    """Break off after one transaction, call it again and break off after two, and so on, until it comes to its end."""
    async with opened(settings, Fuse) as database:
        for database.left in range(1, 200):
            try:
                await erase(database, Revocations(database), "default", GONE)
            except UnavailableError:
                continue
            break
    assert database.left >= 0


@pytest.mark.usefixtures("in_small_pieces")
async def test_one_that_breaks_off_again_and_again_comes_to_its_end(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, settings: Settings, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    await erase_bit_by_bit(settings)
    assert traces(connection) == {"revocation"}


@pytest.mark.usefixtures("in_small_pieces")
async def test_in_pieces_it_erases_as_much(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await live(backend, worker, connection, database_url)
    assert await erased(backend) == ERASED
    assert traces(connection) == {"revocation"}


class Watched(Database):
    """A database at which somebody looks after each transaction."""

    look: Callable[[], None]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with super().transaction() as connection:
            yield connection
        self.look()


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
    floors: list[int] = []

    def look() -> None:
        with connect(database_url) as other:  # nobody holds the inbox between two pieces
            rows = other.execute("SELECT floor_seq FROM inbox WHERE user_id = %s FOR UPDATE NOWAIT", [GONE])
            floors.extend(row["floor_seq"] for row in rows)

    async with opened(settings, Watched) as database:
        database.look = look
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
    steps: list[tuple[int, int]] = []

    def look() -> None:
        rows = connection.execute("SELECT floor_seq, (SELECT count(*) FROM delivery) AS left FROM inbox").fetchall()
        steps.extend((row["floor_seq"], row["left"]) for row in rows)

    async with opened(settings, Watched) as database:
        database.look = look
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


async def trim(backend: httpx.AsyncClient, worker: Resources, connection: Connection) -> None:
    """Let retention take out of the user's inbox what they have deleted."""
    everybody = {"users": ["u_1", GONE]}
    for to in ({"user": GONE}, everybody, {"user": "u_1"}, {"user": GONE}, everybody):
        await send(backend, to=to)
    await dispatched(worker)
    delete = {"action": "delete", "up_to": 4}
    assert (await backend.post("/v1/inbox/actions", json=delete, headers=as_user(GONE))).json()["changed"] == 4
    (box,) = connection.execute("SELECT id FROM inbox WHERE user_id = %s", [GONE]).fetchall()
    connection.execute(retention_sql.TRIM_LOG, {"inbox": box["id"], "log_items": 0, "log_age_s": 1e6})
    assert connection.execute("SELECT 1 FROM delivery WHERE inbox_id = %s", [box["id"]]).fetchall() == []
    await send(backend, to={"user": GONE})
    await send(backend, to=everybody)
    await dispatched(worker)


@pytest.mark.parametrize("pieces", ["whole", "in_small_pieces"])
async def test_what_retention_has_taken_out_of_their_inbox_goes_too(
    pieces: str,
    backend: httpx.AsyncClient,
    worker: Resources,
    connection: Connection,
    database_url: str,
    request: pytest.FixtureRequest,
) -> None:
    if pieces == "in_small_pieces":
        request.getfixturevalue(pieces)
    await trim(backend, worker, connection)
    assert faults(database_url) == ()
    counts = await erased(backend)
    assert (counts["deliveries"], counts["notifications"], counts["shared_notifications"]) == (2, 3, 3)
    assert traces(connection) == {"revocation"}
    assert faults(database_url) == ()
    left = connection.execute("SELECT audience FROM notification ORDER BY id").fetchall()
    assert [row["audience"] for row in left] == [{"users": ["u_1"]}, {"user": "u_1"}, *[{"users": ["u_1"]}] * 2]


@pytest.mark.usefixtures("in_small_pieces")
async def test_it_goes_too_where_one_breaks_off_again_and_again(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, settings: Settings
) -> None:
    await trim(backend, worker, connection)
    await erase_bit_by_bit(settings)
    assert traces(connection) == {"revocation"}


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
