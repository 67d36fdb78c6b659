"""What is cancelled for very many is decided at once and counted bit by bit, whoever breaks off meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from api import cancellations
from api.auth import Backend
from api.cancellations import Cancellation, Cancellations
from api.resources import Resources as ApiResources
from models.database import Database
from models.digest_closing import close_due
from models.errors import UnavailableError
from models.queries import withdraw as withdraw_sql
from models.states import Action
from tests.api.test_cancel import act, cancel, half_way, inbox, look
from tests.workers.test_fan_out import TOPIC, broadcast, finish, names, outbox, reached, subscribe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx

    from models.database import Connection
    from models.settings import Settings


@pytest.fixture
def bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(cancellations, "COUNTED_AT_ONCE", 4)


async def with_latecomers(backend: httpx.AsyncClient, connection: Connection, to: dict[str, Any]) -> str:
    """It is half-way, and others came after it was due."""
    key = await half_way(backend, connection, to)
    subscribe(connection, [f"u_019{nth}" for nth in range(9)])
    connection.execute(
        "INSERT INTO inbox (tenant, user_id) SELECT 'default', 'u_018' || n FROM generate_series(1, 9) n"  # and began
    )
    return key


HALF_WAY = (14, 9, 1)
ADMIN = Backend("", "default", frozenset({"admin"}), frozenset())


@asynccontextmanager
async def cancelling_with(kind: type[Database], settings: Settings) -> AsyncIterator[tuple[Cancellations, Any]]:
    held = ApiResources.build(settings)
    database = kind(settings.database_url, size=4)
    await database.open()
    yield Cancellations(database, held.hints, held.pushes), database
    await database.close()


@pytest.mark.usefixtures("bit_by_bit")
@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
async def test_very_many_are_counted_bit_by_bit_and_as_of_when_it_was_decided(
    to: dict[str, Any], backend: httpx.AsyncClient, connection: Connection, settings: Settings
) -> None:
    key = await with_latecomers(backend, connection, to)

    class Reading(Database):
        """While it is counted, users go on reading and deleting, and workers take it back."""

        async def rows(self, statement: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
            if statement == withdraw_sql.count_to_recall(4):
                await act(backend, "u_005", Action.READ)
                await act(backend, "u_006", Action.DELETE)
                await asyncio.to_thread(finish, connection)
            return await super().rows(statement, parameters)

    async with cancelling_with(Reading, settings) as (reading, _):
        assert await reading.cancel(ADMIN, key) == Cancellation(*HALF_WAY)
    assert await cancel(backend, key) == HALF_WAY
    seen = await look(backend, key)
    told = [event["detail"] for event in seen["timeline"] if event["event"] == "cancelled"]
    assert (seen["status"], told) == ("cancelled", ["never to arrive for 14, recalled from 9, left alone with 1"])
    (left,) = connection.execute("SELECT count(*) AS n FROM delivery WHERE deleted_at IS NULL").fetchall()
    assert (left["n"], outbox(connection)) == (1, 0), "who reads it after it was decided loses it all the same"


@pytest.mark.usefixtures("bit_by_bit")
@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
async def test_whoever_breaks_off_while_it_counts_asks_again(
    to: dict[str, Any], backend: httpx.AsyncClient, connection: Connection, settings: Settings
) -> None:
    key = await with_latecomers(backend, connection, to)

    class Fuse(Database):
        left = 0

        async def rows(self, *asked: Any) -> list[dict[str, Any]]:
            self.left -= 1
            if self.left < 0:
                raise UnavailableError
            return await super().rows(*asked)

    async with cancelling_with(Fuse, settings) as (breaking_off, database):
        for database.left in range(5):
            with pytest.raises(UnavailableError):
                await breaking_off.cancel(ADMIN, key)
            assert (await look(backend, key))["status"] == "cancelled", "it is decided, whatever is counted"
    finish(connection)
    assert len(reached(connection, key)) == 10
    assert set(await asyncio.gather(*(cancel(backend, key) for _ in range(5)))) == {HALF_WAY}


@pytest.mark.usefixtures("bit_by_bit")
async def test_many_digests_are_left_bit_by_bit_and_counted_once(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    subscribe(connection, names(20))
    key = broadcast(connection, {"topic": TOPIC}, digest_every="1h", digest_key="")
    other = broadcast(connection, {"topic": TOPIC}, digest_every="1h", digest_key="")
    finish(connection)
    for user in names(2):
        assert (await backend.post(f"/v1/users/{user}/digests/close")).status_code == 200
    answers = await asyncio.gather(*(cancel(backend, key) for _ in range(4)))
    assert set(answers) == {(18, 0, 2)}
    rows = connection.execute(
        "SELECT notification_id::text AS id, count(*) AS n FROM digest_entry GROUP BY 1"
    ).fetchall()
    assert {row["id"]: row["n"] for row in rows} == {key: 2, other: 20}


@pytest.mark.usefixtures("bit_by_bit")
async def test_what_was_cancelled_arrives_in_no_digest_and_is_counted_though_nobody_asks_again(
    backend: httpx.AsyncClient, connection: Connection, settings: Settings
) -> None:
    subscribe(connection, names(20))
    key = broadcast(connection, {"topic": TOPIC}, digest_every="1h", digest_key="")
    other = broadcast(connection, {"topic": TOPIC}, digest_every="1h", digest_key="")
    finish(connection)

    class Away(Database):
        away = True

        async def rows(self, *asked: Any) -> list[dict[str, Any]]:
            if self.away:
                raise UnavailableError
            return await super().rows(*asked)

    async with cancelling_with(Away, settings) as (cancelling, database):
        with pytest.raises(UnavailableError):
            await cancelling.cancel(ADMIN, key)
        connection.execute("UPDATE digest SET closes_at = now()")
        assert close_due(connection, 50) == []
        assert (await backend.post(f"/v1/users/{names(1)[0]}/digests/close")).json()["closed"] == []
        database.away = False
        await cancelling.finish(60)
        assert close_due(connection, 50) == [], "whoever cancelled it may be counting"
        await cancelling.finish(0)
    assert len(close_due(connection, 50)) == 20
    finish(connection)
    (item,) = (await inbox(backend, names(1)[0]))["items"]
    assert [entry["id"] for entry in item["data"]["items"]] == [other]
    assert await cancel(backend, key) == (20, 0, 0)
