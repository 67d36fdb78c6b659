"""Who is online, over all devices and nodes: told within a second, and without flicker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from models import redis_keys
from models.contracts import PresenceList
from models.keys import create_key
from models.presence import Note, status_of
from models.socket_events import PresenceFrame, WatchOut
from models.states import PresenceStatus
from tests.api.test_notifications import problem
from tests.conftest import running_api, token
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    import httpx
    import redis.asyncio

    from models.settings import Settings
    from tests.socket_server.conftest import Device, Make, Running


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
    node: Running, device: Make, redis_client: redis.asyncio.Redis
) -> None:
    one = device()
    await watching(one, node, "u_1")
    held = redis_keys.holdings(node.node._announcer._node)
    assert await redis_client.smembers(held) == {b"default/watcher", b"default/~u_1"}
    await one.client.disconnect()
    await eventually(lambda: not node.node._watching._watched)

    async def forgotten() -> bool:
        return not await redis_client.exists(held)

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
