"""Who is online, over all devices and nodes: told within a second, without flicker, and right again after any loss."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from models import redis_keys
from models.contracts import PresenceList
from models.errors import UnavailableError
from models.keys import create_key
from models.presence import Note, status_of
from models.socket_events import PresenceFrame, WatchOut
from models.states import PresenceStatus
from tests.api.test_notifications import problem
from tests.conftest import running_api, token
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Device, Running

    Make = Callable[[], Device]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(settings.redis_url) as connected:
        yield connected


async def watching(device: Device, node: Running, *users: str, name: str = "watcher") -> dict[str, Any]:
    await device.connect(node.url, name, watch=["*"])
    return await watch(device, *users)


async def watch(device: Device, *users: str) -> dict[str, Any]:
    answer = await device.call("watch", {"users": list(users)})
    WatchOut.model_validate(answer)
    return {user: seen["status"] for user, seen in answer["users"].items()}


async def presence(api: httpx.AsyncClient, *users: str) -> dict[str, Any]:
    response = await api.get("/v1/presence", params={"users": ",".join(users)})
    assert response.status_code == 200, response.text
    PresenceList.model_validate(response.json())
    found: dict[str, Any] = response.json()["users"]
    return found


# --- coming, going, turning away -------------------------------------------------------------------------------------


async def test_coming_and_going_is_told_within_a_second(node: Running, device: Make) -> None:
    one = device()
    assert await watching(one, node, "u_1") == {"u_1": "offline"}
    started = time.monotonic()
    two = await device().connect(node.url)
    await eventually(lambda: one.statuses("u_1") == ["online"])
    assert time.monotonic() - started < 1
    left_at = datetime.now(UTC)
    await two.client.disconnect()
    await eventually(lambda: one.statuses("u_1") == ["online", "offline"])
    frame = PresenceFrame.model_validate(one.presence["u_1"][-1])
    assert frame.last_seen_at
    assert abs(frame.last_seen_at - left_at) < timedelta(seconds=0.5)


async def test_somebody_is_away_when_they_are_at_none_of_their_devices(
    settings: Settings, node: Running, device: Make
) -> None:
    async with running_node(settings) as other:
        one = device()
        await watching(one, node, "u_1")
        first, second = await device().connect(node.url), await device().connect(other.url)
        await eventually(lambda: one.statuses("u_1") == ["online"])
        assert await first.call("status", {"status": "away"}) == {"ok": True}
        await asyncio.sleep(0.2)
        assert one.statuses("u_1") == ["online"]
        await second.call("status", {"status": "away"})
        await eventually(lambda: one.statuses("u_1") == ["online", "away"])
        assert await watch(one, "u_1") == {"u_1": "away"}
        await first.call("status", {"status": "online"})
        await eventually(lambda: one.statuses("u_1") == ["online", "away", "online"])
        await first.client.disconnect()
        await eventually(lambda: one.statuses("u_1") == ["online", "away", "online", "away"])
        third = await device().connect(node.url)
        await eventually(lambda: one.statuses("u_1")[-1] == "online")
        for each in (second, third):
            await each.client.disconnect()
        await eventually(lambda: one.statuses("u_1")[-1] == "offline")


async def test_whoever_comes_back_in_time_was_never_gone(settings: Settings, node: Running, device: Make) -> None:
    async with running_node(settings) as other:
        one = device()
        await watching(one, node, "u_1")
        two = await device().connect(node.url)
        await eventually(lambda: one.statuses("u_1") == ["online"])
        for url in (node.url, other.url, node.url):
            await two.client.disconnect()
            two = await device().connect(url)
        await asyncio.sleep(2 * settings.presence_grace_s)
        assert one.statuses("u_1") == ["online"]
        await two.client.disconnect()


async def test_unwatched_is_unheard(node: Running, device: Make) -> None:
    one = device()
    await watching(one, node, "u_1", "u_2")
    assert await one.call("unwatch", {"users": ["u_1", "u_3"]}) == {"ok": True}
    await device().connect(node.url, "u_1")
    await device().connect(node.url, "u_2")
    await eventually(lambda: one.statuses("u_2") == ["online"])
    assert one.statuses("u_1") == []


async def test_nothing_is_left_of_a_watcher_who_is_gone(
    node: Running, device: Make, client: redis.asyncio.Redis
) -> None:
    one = device()
    await watching(one, node, "u_1")
    held = redis_keys.holdings(node.node._announcer._node)
    assert await client.smembers(held) == {b"default/watcher", b"default/~u_1"}
    await one.client.disconnect()
    await eventually(lambda: not node.node._watching._watched)

    async def forgotten() -> bool:
        return not await client.exists(held)

    await eventually(forgotten)
    assert node.node._watching._behind == {}


# --- many ------------------------------------------------------------------------------------------------------------


async def test_many_watchers_cost_one_message_per_node(node: Running, device: Make) -> None:
    watchers = [device() for _ in range(20)]
    for nth, each in enumerate(watchers):
        await watching(each, node, "u_1", name=f"w_{nth}")
    heard: list[str] = []
    original = node.node._watching.on_push
    node.node._watching.on_push = lambda push: (heard.append(push.key), original(push))  # type: ignore[method-assign, func-returns-value]
    await device().connect(node.url)
    for each in watchers:
        await eventually(lambda each=each: each.statuses("u_1") == ["online"])
    assert heard == ["default/~u_1"]


async def test_a_watcher_that_does_not_read_is_told_how_it_is_when_it_does(node: Running, device: Make) -> None:
    one = device()
    await watching(one, node, "u_1")
    (held,) = node.node._registry.of_user("default/watcher")
    full, held.outgoing.full_to = held.outgoing.full_to, lambda _: True  # type: ignore[method-assign]
    two = await device().connect(node.url)
    await eventually(lambda: node.node._watching._behind)
    await two.call("status", {"status": "away"})
    await eventually(lambda: next(iter(node.node._watching._watched.values())).told == "away")
    held.outgoing.full_to = full  # type: ignore[method-assign]
    await eventually(lambda: one.statuses("u_1") == ["away"])


# --- nodes that vanish, Redis that forgets ---------------------------------------------------------------------------


@pytest.fixture
def short_lived(settings: Settings) -> Settings:
    return settings.model_copy(update={"node_heartbeat_s": 0.3, "node_ttl_s": 1.0})


async def vanish(node: Running) -> None:
    """Leave as a process does that is killed: without a word to Redis."""
    node.node._announcer._withdrawn = True
    node.node._presence._grace_s = 3_600
    for connection in list(node.node._registry.connections()):
        await node.node._server.close(connection.eio_sid)


async def test_a_vanished_nodes_users_go_offline_and_were_last_seen_with_it(
    short_lived: Settings, device: Make, connection: Connection, client: redis.asyncio.Redis
) -> None:
    async with running_node(short_lived) as node, running_node(short_lived) as other:
        one = device()
        await watching(one, node, "u_1", "u_2")
        await device().connect(other.url, "u_1")
        two = await device().connect(other.url, "u_2")
        await eventually(lambda: one.statuses("u_1") == one.statuses("u_2") == ["online"])
        await vanish(other)
        vanished_at = datetime.now(UTC)
        two = await device().connect(node.url, "u_2")  # in time
        await eventually(lambda: one.statuses("u_1") == ["online", "offline"])
        assert datetime.now(UTC) - vanished_at < timedelta(seconds=short_lived.node_ttl_s + 1.5)
        last_seen_at = PresenceFrame.model_validate(one.presence["u_1"][-1]).last_seen_at
        assert last_seen_at
        assert abs(last_seen_at - vanished_at) < timedelta(seconds=1)
        assert one.statuses("u_2") == ["online"]

        def noted() -> bool:
            rows = connection.execute("SELECT user_id, last_seen_at FROM presence ORDER BY user_id").fetchall()
            return [(row["user_id"], row["last_seen_at"]) for row in rows][:1] == [("u_1", last_seen_at)]

        await eventually(noted)
        await eventually(lambda: exists(client, redis_keys.holdings(other.node._announcer._node), expected=False))
        await two.client.disconnect()


async def exists(client: redis.asyncio.Redis, key: str, *, expected: bool) -> bool:
    return bool(await client.exists(key)) is expected


async def test_a_node_that_is_found_deaf_keeps_its_users_for_a_grace(
    settings: Settings, device: Make, client: redis.asyncio.Redis
) -> None:
    """A push to it finds nobody who listens: it is out of the list of nodes at once, long before its time."""
    patient = settings.model_copy(update={"presence_grace_s": 1.5})
    async with running_node(patient) as node, running_node(patient) as other:
        one = device()
        await watching(one, node, "u_1", "u_2")
        await device().connect(other.url, "u_1")
        await device().connect(other.url, "u_2")
        await eventually(lambda: one.statuses("u_1") == one.statuses("u_2") == ["online"])
        await vanish(other)
        name = other.node._announcer._node
        await client.zrem(redis_keys.NODES, name)
        await client.zadd(redis_keys.DEPARTED, {name: time.time()})
        back = await device().connect(node.url, "u_2")
        await eventually(lambda: one.statuses("u_1") == ["online", "offline"])
        assert one.statuses("u_2") == ["online"]
        await back.client.disconnect()


async def test_draining_nodes_users_move_without_flicker(settings: Settings, node: Running, device: Make) -> None:
    patient = settings.model_copy(update={"presence_grace_s": 1.5, "drain_s": 0.5})
    async with running_node(patient) as other, running_node(patient) as watcher:
        one = device()
        await watching(one, watcher, "u_1")
        await device().connect(other.url)
        await eventually(lambda: one.statuses("u_1") == ["online"])
        await other.node.drain()
        back = await device().connect(watcher.url)
        await asyncio.sleep(2.5)
        assert one.statuses("u_1") == ["online"]
        await back.client.disconnect()


async def test_after_a_flush_it_heals_and_nobody_seems_gone(
    short_lived: Settings, device: Make, client: redis.asyncio.Redis
) -> None:
    async with running_node(short_lived) as node, running_node(short_lived) as other:
        one = device()
        await watching(one, node, "u_1", "u_2")
        here, there = await device().connect(node.url, "u_1"), await device().connect(other.url, "u_2")
        await eventually(lambda: one.statuses("u_1") == one.statuses("u_2") == ["online"])
        await there.call("status", {"status": "away"})
        await eventually(lambda: one.statuses("u_2") == ["online", "away"])
        for _ in range(3):
            await client.flushall()
            await asyncio.sleep(0.7)
        await eventually(lambda: exists(client, redis_keys.notes(other.node._announcer._node), expected=True))
        assert await watch(one, "u_1", "u_2") == {"u_1": "online", "u_2": "away"}
        assert (one.statuses("u_1"), one.statuses("u_2")) == (["online"], ["online", "away"])
        await there.client.disconnect()
        await here.client.disconnect()


async def test_a_change_that_nobody_was_told_of_is_found(
    node: Running, device: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket_server.watching._LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr("socket_server.watching._TICK_S", 0.1)
    one = device()
    await watching(one, node, "u_1")
    node.node._watching.on_push = lambda _: None  # type: ignore[method-assign]
    await device().connect(node.url)
    await eventually(lambda: one.statuses("u_1") == ["online"])


async def test_without_postgres_watchers_are_told_all_the_same(
    node: Running, device: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = device(), device()
    await watching(one, node, "u_1")
    await two.connect(node.url)
    await eventually(lambda: one.statuses("u_1") == ["online"])

    async def away(*_: object) -> None:
        raise UnavailableError

    with monkeypatch.context() as during:
        during.setattr(node.node._watching._store, "last_seen", away)
        during.setattr(node.node._presence._store, "record", away)
        during.setattr(node.node._presence, "_grace_s", 0.1)
        await two.client.disconnect()
        await eventually(lambda: one.statuses("u_1") == ["online", "offline"])
        assert one.presence["u_1"][-1]["last_seen_at"] is not None
        assert await watch(one, "u_2") == {"u_2": "offline"}
        unwritten = node.node._presence._unwritten
        assert list(unwritten) == ["default/u_1"]
    await eventually(lambda: not node.node._presence._unwritten)


async def test_to_watch_in_vain_changes_nothing(node: Running, device: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = device()
    await watching(one, node, "u_1")

    async def away(*_: object) -> None:
        raise UnavailableError

    with monkeypatch.context() as during:
        during.setattr(node.node._watching._store, "hosts", away)
        answer = await one.call("watch", {"users": ["u_1", "u_2"]})
        assert answer["error"]["code"] == "unavailable"
    await device().connect(node.url)
    await eventually(lambda: one.statuses("u_1") == ["online"])
    (held,) = node.node._registry.of_user("default/watcher")
    assert held.watched == {"u_1"}


# --- REST ------------------------------------------------------------------------------------------------------------


async def test_backends_see_the_same(settings: Settings, node: Running, device: Make, api_key: str) -> None:
    async with running_api(settings) as api:
        api.headers["authorization"] = f"Bearer {api_key}"
        one, two = await device().connect(node.url, "u_1"), await device().connect(node.url, "u_2")
        await two.call("status", {"status": "away"})

        async def seen(*expected: str) -> bool:
            found = await presence(api, "u_1", "u_2", "u_3")
            return [found[user]["status"] for user in ("u_1", "u_2", "u_3")] == list(expected)

        await eventually(lambda: seen("online", "away", "offline"))
        found = await presence(api, "u_1", "u_3", "u_3")
        assert set(found) == {"u_1", "u_3"}
        assert found["u_1"]["last_seen_at"]
        assert found["u_3"]["last_seen_at"] is None
        await one.client.disconnect()
        await eventually(lambda: seen("offline", "away", "offline"))
        at = datetime.fromisoformat((await presence(api, "u_1"))["u_1"]["last_seen_at"])
        assert timedelta() < datetime.now(UTC) - at < timedelta(seconds=5)


async def test_another_tenants_user_of_the_same_name_is_somebody_else(node: Running, device: Make) -> None:
    database = node.node._tokens.tenants._database
    await asyncio.to_thread(create_key, node.node._settings.database_url, tenant="other", scopes=["admin"], name="x")
    await database.rows(f"UPDATE tenant SET secret = '{'x' * 40}' WHERE id = 'other'", {})
    one = device()
    await watching(one, node, "u_1")
    await device().connect(node.url, auth={"token": token(tenant="other", secret="x" * 40)})
    await asyncio.sleep(0.3)
    assert one.statuses("u_1") == []


async def test_another_tenants_backend_asks_for_its_own_users_and_needs_the_scope(
    settings: Settings, node: Running, device: Make, database_url: str
) -> None:
    await device().connect(node.url)
    async with running_api(settings) as api:
        for tenant, scope, status, seen in (
            ("other", "presence:read", 200, "offline"),
            ("default", "presence:read", 200, "online"),
            ("default", "rooms:publish", 403, None),
        ):
            _, key = create_key(database_url, tenant=tenant, scopes=[scope], name=scope)
            response = await api.get("/v1/presence?users=u_1", headers={"authorization": f"Bearer {key}"})
            assert response.status_code == status
            if seen is not None:
                assert response.json()["users"]["u_1"]["status"] == seen


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["watch", "unwatch"])
@pytest.mark.parametrize("users", [[], [f"u_{nth}" for nth in range(1_001)], ["a b"], ["a\n"], "u_1", [1], None])
async def test_refuses_to_watch(event: str, users: Any, node: Running, device: Make) -> None:
    one = await device().connect(node.url, watch=["*"])
    answer = await one.call(event, {"users": users})
    assert (answer["ok"], answer["error"]["code"]) == (False, "validation_failed")


async def test_a_hundred_are_watched_and_no_more(node: Running, device: Make) -> None:
    one = device()
    assert len(await watching(one, node, *(f"u_{nth}" for nth in range(100)))) == 100
    answer = await one.call("watch", {"users": ["one_more"]})
    assert (answer["ok"], answer["error"]["code"]) == (False, "too_many_watched")
    at_once = await device().connect(node.url, watch=["*"])
    answer = await at_once.call("watch", {"users": [f"u_{nth}" for nth in range(101)]})
    assert (answer["ok"], answer["error"]["code"]) == (False, "too_many_watched")
    assert (await at_once.call("watch", {"users": [f"u_{nth}" for nth in range(100)]}))["ok"]
    assert (await one.call("watch", {"users": ["u_1"]}))["ok"]
    await one.call("unwatch", {"users": ["u_1"]})
    assert (await one.call("watch", {"users": ["one_more"]}))["ok"]


async def test_one_who_is_not_granted_makes_all_of_it_refused(node: Running, device: Make) -> None:
    one = await device().connect(node.url, watch=["u_1", "team_*"])
    answer = await one.call("watch", {"users": ["u_1", "team_7", "u_2"]})
    assert (answer["ok"], answer["error"]["code"], answer["error"]["user"]) == (False, "not_granted", "u_2")
    assert node.node._watching._watched == {}
    assert (await one.call("watch", {"users": ["u_1", "team_7"]}))["ok"]


async def test_whom_a_new_token_does_not_grant_is_watched_no_more(node: Running, device: Make) -> None:
    one = device()
    await watching(one, node, "u_1", "u_2")
    await one.call("refresh", {"token": token("watcher", watch=["u_2"])})
    await device().connect(node.url, "u_1")
    await device().connect(node.url, "u_2")
    await eventually(lambda: one.statuses("u_2") == ["online"])
    assert one.statuses("u_1") == []
    (told,) = one.errors
    assert (told["code"], told["event"], told["user"]) == ("not_granted", "watch", "u_1")


@pytest.mark.parametrize("status", ["offline", "busy", "", None, 1])
async def test_refuses_a_status_that_is_none(status: Any, node: Running, device: Make) -> None:
    one = await device().connect(node.url)
    answer = await one.call("status", {"status": status})
    assert (answer["ok"], answer["error"]["code"]) == (False, "validation_failed")


@pytest.mark.parametrize(
    "users", ["", ",", "a,,b", "a b", "a\n", ",".join(f"u_{nth}" for nth in range(101)), "a" * 129]
)
async def test_backends_must_ask_for_names(users: str, settings: Settings, api_key: str) -> None:
    async with running_api(settings) as api:
        headers = {"authorization": f"Bearer {api_key}"}
        answer = problem(await api.get("/v1/presence", params={"users": users}, headers=headers))
        assert (answer["status"], answer["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    ("notes", "status"),
    [
        ([], PresenceStatus.OFFLINE),
        ([Note()], PresenceStatus.ONLINE),
        ([Note(away=True)], PresenceStatus.AWAY),
        ([Note(3, away=True), Note()], PresenceStatus.ONLINE),
        ([Note(3, away=True), Note(away=True)], PresenceStatus.AWAY),
    ],
)
def test_whoever_is_at_one_device_is_online(notes: list[Note], status: PresenceStatus) -> None:
    assert status_of(notes) is status
    assert [Note.read(note.written().encode()) for note in notes] == notes
    assert Note.read(None) == Note()
