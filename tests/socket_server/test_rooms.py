"""A room is a numbered log for everybody who joined it: the same order, no gap, and a clear word where that ends."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from models.database import connect
from models.errors import UnavailableError
from models.keys import create_key
from models.retention import Kept
from models.socket_events import ErrorFrame, JoinOut, RoomFrame
from tests.api.test_users import bearing
from tests.conftest import running_api, token
from tests.socket_server.conftest import eventually, running_node
from workers.tasks import trim_until_done

if TYPE_CHECKING:
    from models.database import Connection
    from models.push import Push
    from models.settings import Settings
    from tests.socket_server.conftest import Make, Publish, Running
    from workers.resources import Resources

ROOM = "shop:order:42"
GRANTS = ["shop:order:*"]


async def test_a_member_gets_what_happens_from_now_on(node: Running, device: Make, publish: Publish) -> None:
    await publish(ROOM, range(3))
    one = await device().connect(node.url, rooms=GRANTS)
    answer = await one.join(ROOM)
    JoinOut.model_validate(answer)
    assert answer == {"ok": True, "seq": 3, "head": 3, "reset": False}
    await publish(ROOM, [3])
    await one.reach_in(ROOM, 4)
    assert one.heard(ROOM) == [3]
    RoomFrame.model_validate(one.rooms[ROOM][0])


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids="+".join)
async def test_since_replays_exactly_what_was_missed(
    transports: list[str], node: Running, device: Make, publish: Publish
) -> None:
    await publish(ROOM, range(250))
    one = await device().connect(node.url, rooms=GRANTS, transports=transports)
    assert await one.join(ROOM, since=2) == {"ok": True, "seq": 2, "head": 250, "reset": False}
    await one.reach_in(ROOM, 250)
    assert one.heard(ROOM) == list(range(2, 250))
    await publish(ROOM, [250])
    await one.reach_in(ROOM, 251)


async def test_everybody_on_every_node_hears_the_same(
    settings: Settings, node: Running, device: Make, publish: Publish
) -> None:
    async with running_node(settings) as other:
        devices = [
            await device().connect(url, f"u_{nth}", rooms=GRANTS) for nth in range(4) for url in (node.url, other.url)
        ]
        for one in devices:
            await one.join(ROOM)
        for nth in range(0, 100, 10):
            await publish(ROOM, range(nth, nth + 10))
        for one in devices:
            await one.reach_in(ROOM, 100)
            assert one.heard(ROOM) == list(range(100))
            await one.client.disconnect()


async def test_a_room_costs_one_message_per_node(node: Running, device: Make, publish: Publish) -> None:
    for nth in range(20):
        one = await device().connect(node.url, f"u_{nth}", rooms=GRANTS)
        await one.join(ROOM)
    heard: list[Push] = []
    rooms = node.node._rooms
    original = rooms.on_push
    for bus in node.node._buses:
        bus._on_push = lambda push: (heard.append(push), original(push))  # type: ignore[func-returns-value]
    await publish(ROOM, range(5))
    await one.reach_in(ROOM, 5)
    assert [(push.first, push.last) for push in heard] == [(1, 5)]


async def test_who_left_hears_no_more_and_can_come_back(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    two = await device().connect(node.url, "u_2", rooms=GRANTS)
    await one.join(ROOM)
    await two.join(ROOM)
    assert await one.call("leave", {"room": ROOM}) == {"ok": True}
    assert await one.call("leave", {"room": ROOM}) == {"ok": True}
    await publish(ROOM, range(3))
    await two.reach_in(ROOM, 3)
    assert one.heard(ROOM) == []
    await one.join(ROOM, since=0)
    await one.reach_in(ROOM, 3)
    assert one.heard(ROOM) == [0, 1, 2]


async def test_joining_again_goes_on_from_where_it_says(node: Running, device: Make, publish: Publish) -> None:
    await publish(ROOM, range(5))
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM, since=3)
    await one.reach_in(ROOM, 5)
    assert (await one.join(ROOM, since=1))["seq"] == 1
    await one.reach_in(ROOM, 5)
    assert one.heard(ROOM) == [3, 4, 1, 2, 3, 4]
    await publish(ROOM, [5])
    await one.reach_in(ROOM, 6)
    (held,) = node.node._rooms._rooms.values()
    assert len(held.members) == 1


async def test_a_room_of_the_same_name_is_another_tenants_own(
    node: Running, device: Make, settings: Settings, api_key: str, database_url: str
) -> None:
    _, other_key = create_key(database_url, tenant="other", scopes=["admin"], name="other")
    secret = "x" * 40
    with connect(database_url) as connection:
        connection.execute("UPDATE tenant SET secret = %s WHERE id = 'other'", [secret])
    ours = await device().connect(node.url, rooms=GRANTS)
    theirs = await device().connect(node.url, auth={"token": token(tenant="other", secret=secret, rooms=GRANTS)})
    for one in (ours, theirs):
        assert (await one.join(ROOM))["seq"] == 0
    async with running_api(settings) as api:
        for nth, key in enumerate([api_key, other_key, api_key]):
            event = {"event": "order.updated", "data": {"nth": nth}}
            response = await api.post(f"/v1/rooms/{ROOM}/events", json=event, headers=bearing(key))
            assert response.status_code == 202
        log = (await api.get(f"/v1/rooms/{ROOM}/log?since=0", headers=bearing(other_key))).json()
        assert [entry["data"]["nth"] for entry in log["entries"]] == [1]
    await ours.reach_in(ROOM, 2)
    await theirs.reach_in(ROOM, 1)
    assert (ours.heard(ROOM), theirs.heard(ROOM)) == ([0, 2], [1])


async def test_joining_again_in_vain_changes_nothing(
    node: Running, device: Make, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)

    async def away(_: object) -> None:
        raise UnavailableError

    with monkeypatch.context() as during:
        during.setattr(node.node._rooms._store, "head", away)
        assert (await one.call("join", {"room": ROOM, "since": 0}))["error"]["code"] == "unavailable"
        assert (await one.call("join", {"room": "shop:order:1"}))["error"]["code"] == "unavailable"
    await publish(ROOM, range(3))
    await one.reach_in(ROOM, 3)
    assert list(node.node._rooms._rooms) == ["default/#shop:order:42"]


async def test_who_leaves_while_a_join_waits_is_in_no_room(
    node: Running, device: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    head, asked, answered = node.node._rooms._store.head, asyncio.Event(), asyncio.Event()

    async def slow(room: Any) -> Any:
        asked.set()
        await answered.wait()
        return await head(room)

    monkeypatch.setattr(node.node._rooms._store, "head", slow)
    await one.client.emit("join", {"room": ROOM})
    await asked.wait()
    (held,) = node.node._registry.of_user("default/u_1")
    await node.node._server.close(held.eio_sid)
    await eventually(lambda: held.closed)
    answered.set()
    await eventually(lambda: not node.node._rooms._rooms)
    assert "default/#shop:order:42" not in node.node._rooms._holdings


async def test_many_rooms_of_one_client_are_replayed_within_its_bounds(
    node: Running, device: Make, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"shop:order:{nth}" for nth in range(20)]
    for name in names:
        await publish(name, range(3))
    one = await device().connect(node.url, rooms=GRANTS)
    page, under_way = node.node._rooms._source.page, []
    most = 0

    async def counted(*asked: Any) -> Any:
        nonlocal most
        under_way.append(asked)
        most = max(most, len(under_way))
        try:
            return await page(*asked)
        finally:
            under_way.remove(asked)

    source = dataclasses.replace(node.node._rooms._source, page=counted)
    monkeypatch.setattr(node.node._rooms, "_source", source)
    for name in names:
        await one.client.emit("join", {"room": name, "since": 0})
        one.room_seqs[name] = 0
    for name in names:
        await one.reach_in(name, 3)
    assert most == 1


async def test_nothing_is_left_of_who_is_gone(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    announcer = node.node._announcer
    assert await announcer._redis.smembers(announcer._set) == {b"default/u_1", b"default/#shop:order:42"}
    await one.client.disconnect()
    await eventually(lambda: not node.node._rooms._rooms)

    async def forgotten() -> bool:
        return not await announcer._redis.exists(announcer._set)

    await eventually(forgotten)


# --- where it ends ---------------------------------------------------------------------------------------------------


@pytest.fixture
def keeping_little(settings: Settings) -> Settings:
    return settings.model_copy(update={"room_retention": {"*": Kept(events=5)}})


async def test_a_number_that_is_no_longer_kept_is_a_reset(
    keeping_little: Settings, api_key: str, worker: Resources, device: Make
) -> None:
    async with running_node(keeping_little) as node, running_api(keeping_little) as api:
        for nth in range(20):
            await api.post(
                f"/v1/rooms/{ROOM}/events",
                json={"event": "x", "data": {"nth": nth}},
                headers={"authorization": f"Bearer {api_key}"},
            )
        trim_until_done(worker)
        one = await device().connect(node.url, rooms=GRANTS)
        assert await one.join(ROOM, since=3) == {"ok": True, "seq": 20, "head": 20, "reset": True}
        assert await one.join(ROOM, since=15) == {"ok": True, "seq": 15, "head": 20, "reset": False}
        await one.reach_in(ROOM, 20)
        assert await one.join(ROOM, since=99) == {"ok": True, "seq": 20, "head": 20, "reset": True}
        await one.client.disconnect()


async def test_a_member_too_far_behind_is_told_to_join_again(
    node: Running, device: Make, publish: Publish, connection: Connection
) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    (held,) = node.node._registry.of_user("default/u_1")
    held.rooms[ROOM].live = False  # as when it does not read
    await publish(ROOM, range(10))
    connection.execute("UPDATE room SET floor_seq = 8")
    node.node._replay.catch_up(held.rooms[ROOM], node.node._rooms._source, "slow")
    await eventually(lambda: one.errors)
    ErrorFrame.model_validate(one.errors[0])
    assert {name: one.errors[0][name] for name in ("code", "event", "room")} == {
        "code": "room_reset",
        "event": "join",
        "room": ROOM,
    }
    assert held.rooms == {}
    assert (await one.join(ROOM, since=0))["reset"]
    await publish(ROOM, [10])
    await one.reach_in(ROOM, 11)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grants", "room"),
    [
        ([], ROOM),
        (["shop:order:4"], ROOM),
        (["blog:*"], ROOM),
        (["shop:order:*"], "Shop:order:42"),
        (["shop:order:*"], "shop:Order:42"),
        (["shop:order:*"], "shop:orders"),
    ],
)
async def test_refuses_a_room_that_is_not_granted(grants: list[str], room: str, node: Running, device: Make) -> None:
    one = await device().connect(node.url, rooms=grants)
    answer = await one.call("join", {"room": room})
    assert (answer["ok"], answer["error"]["code"], answer["error"]["room"]) == (False, "not_granted", room)
    assert node.node._rooms._rooms == {}


@pytest.mark.parametrize(
    "body",
    [
        {"room": "a" * 129},
        {"room": "shop:\n42"},
        {"room": "shop:\x00"},
        {"room": "shop:*"},
        {"room": ""},
        {"room": 42},
        {},
        {"room": ROOM, "since": -1},
        {"room": ROOM, "since": "1"},
        {"room": ROOM, "colour": "red"},
    ],
)
async def test_refuses_a_join_that_makes_no_sense(body: dict[str, Any], node: Running, device: Make) -> None:
    one = await device().connect(node.url, rooms=["*"])
    answer = await one.call("join", body)
    assert (answer["ok"], answer["error"]["code"]) == (False, "validation_failed")


async def test_ten_thousand_rooms_are_too_many(settings: Settings, device: Make) -> None:
    lenient = settings.model_copy(update={"client_events_per_s": 1e6, "client_events_burst": 20_000})
    async with running_node(lenient) as node:
        one = await device().connect(node.url, rooms=["*"])
        answers: list[dict[str, Any]] = []
        for nth in range(10_000):
            await one.client.emit("join", {"room": f"shop:order:{nth}"}, callback=answers.append)
            if not one.client.connected:
                break
        await eventually(lambda: len(answers) > settings.rooms_per_connection)
        refused = [answer for answer in answers if not answer["ok"]]
        assert len(answers) - len(refused) == settings.rooms_per_connection
        assert {answer["error"]["code"] for answer in refused} == {"too_many_rooms"}
        assert str(settings.rooms_per_connection) in refused[0]["error"]["detail"]
        await one.client.disconnect()
