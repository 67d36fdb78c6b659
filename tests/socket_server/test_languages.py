"""A device's token says in which language its user is told things, from the moment in which it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from models.database import Database
from models.queries import preferences as sql
from models.states import Priority
from tests.conftest import nobody, token
from tests.models.test_token_locales import remembered
from tests.socket_server.conftest import eventually, running_node
from tests.workers.test_fan_out import broadcast
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import pytest

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Make, Running
    from workers.resources import Resources

TEXTS = {"en": {"title": "parcel", "body": ""}, "uk": {"title": "посилка", "body": ""}}


def come(locale: str | None) -> dict[str, Any]:
    return {"token": token(locale=locale)}


async def tell(connection: Connection, worker: Resources) -> None:
    broadcast(connection, {"user": "u_1"}, title="parcel", texts=TEXTS)
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)


async def test_it_is_the_last_that_any_device_connected_or_refreshed_with(
    node: Running, device: Make, connection: Connection, worker: Resources
) -> None:
    phone = await device().connect(node.url, auth=come("uk-UA"))
    await eventually(lambda: remembered(connection) == {"default/u_1": "uk-UA"})
    await tell(connection, worker)
    laptop = await device().connect(node.url, auth=come("en"))
    await eventually(lambda: remembered(connection) == {"default/u_1": "en"})
    await tell(connection, worker)
    assert (await phone.call("refresh", come("uk")))["ok"]
    await eventually(lambda: remembered(connection) == {"default/u_1": "uk"})
    await tell(connection, worker)
    await device().connect(node.url, auth=come(None))  # says nothing about it
    await tell(connection, worker)
    titles = {1: "посилка", 2: "parcel", 3: "посилка", 4: "посилка"}
    for one, since in ((phone, 0), (laptop, 1)):
        await one.reach(4)
        assert {seq: item["title"] for seq, item in one.replica.items.items()} == {
            seq: title for seq, title in titles.items() if seq > since
        }


async def test_a_refused_token_says_nothing(node: Running, device: Make, connection: Connection) -> None:
    one = await device().connect(node.url, auth=come("uk"))
    await eventually(lambda: remembered(connection) == {"default/u_1": "uk"})
    assert not (await one.call("refresh", {"token": token("u_2", locale="de")}))["ok"]  # of somebody else
    assert not (await one.call("refresh", {"token": token(locale="de", secret="x" * 40)}))["ok"]
    await node.node._token_locales.write()
    assert remembered(connection) == {"default/u_1": "uk"}


async def test_a_node_that_goes_away_writes_what_it_has_heard(
    settings: Settings, device: Make, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.token_locales._INTERVAL_S", 3_600)
    async with running_node(settings) as node:
        await device().connect(node.url, auth=come("uk"))
    assert remembered(connection) == {"default/u_1": "uk"}


async def test_those_who_connect_wait_for_no_statement_and_share_one_which_writes_only_what_is_new(
    settings: Settings, device: Make, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = Database.rows

    async def noted(database: Database, statement: str, parameters: Any) -> Any:
        asked.append(statement)
        return await rows(database, statement, parameters)

    monkeypatch.setattr(Database, "rows", noted)
    monkeypatch.setattr("models.token_locales._INTERVAL_S", 3_600)
    async with running_node(settings) as node:
        written = []
        for _ in range(2):
            asked.clear()
            for nth in range(5):
                await device().connect(node.url, auth={"token": token(f"u_{nth}", locale="uk")})
            assert sql.REMEMBER_LOCALES_IF_NEW not in asked
            await node.node._token_locales.write()
            assert asked.count(sql.REMEMBER_LOCALES_IF_NEW) == 1
            written.append(connection.execute("SELECT user_id, ctid::text, xmax::text FROM preference").fetchall())
    assert len(written[0]) == 5
    assert written[0] == written[1]
