"""Presence is right again after any loss: nodes that vanish, Redis that forgets, Postgres that is away."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from models import redis_keys
from models.errors import UnavailableError
from models.socket_events import PresenceFrame
from tests.socket_server.conftest import eventually, running_node
from tests.socket_server.test_presence import watch, watching

if TYPE_CHECKING:
    import redis.asyncio

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Make, Running


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
    short_lived: Settings, device: Make, connection: Connection, redis_client: redis.asyncio.Redis
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
        await eventually(lambda: exists(redis_client, redis_keys.holdings(other.node._announcer._node), expected=False))
        await two.client.disconnect()


async def exists(client: redis.asyncio.Redis, key: str, *, expected: bool) -> bool:
    return bool(await client.exists(key)) is expected


async def test_a_node_that_is_found_deaf_keeps_its_users_for_a_grace(
    settings: Settings, device: Make, redis_client: redis.asyncio.Redis
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
        await redis_client.zrem(redis_keys.NODES, name)
        await redis_client.zadd(redis_keys.DEPARTED, {name: time.time()})
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
    short_lived: Settings, device: Make, redis_client: redis.asyncio.Redis
) -> None:
    async with running_node(short_lived) as node, running_node(short_lived) as other:
        one = device()
        await watching(one, node, "u_1", "u_2")
        here, there = await device().connect(node.url, "u_1"), await device().connect(other.url, "u_2")
        await eventually(lambda: one.statuses("u_1") == one.statuses("u_2") == ["online"])
        await there.call("status", {"status": "away"})
        await eventually(lambda: one.statuses("u_2") == ["online", "away"])
        for _ in range(3):
            await redis_client.flushall()
            await asyncio.sleep(0.7)
        await eventually(lambda: exists(redis_client, redis_keys.notes(other.node._announcer._node), expected=True))
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
