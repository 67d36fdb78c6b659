"""Pushes and presence may have a Redis of their own: everything works, and the other one hears nothing of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis

from models.redis_keys import NODES
from models.states import Priority
from ops.embedded import embedded_valkey
from tests.conftest import nobody, running_api
from tests.models.test_log import ingest
from tests.socket_server.conftest import Device, eventually, running_node
from workers.resources import Resources
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.database import Connection
    from models.settings import Settings


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_valkey(tmp_path_factory.mktemp("second")) as url:
        yield url


@pytest.fixture
def settings(settings: Settings, second: str) -> Settings:
    return settings.model_copy(update={"bus_url": second})


async def announced(bus: redis.Redis) -> bool:
    return bool(bus.zcard(NODES))


async def test_everything_live_goes_by_the_bus(
    settings: Settings,
    second: str,
    connection: Connection,
    api_key: str,
    device: Callable[[], Device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus, main = redis.Redis.from_url(second), redis.Redis.from_url(settings.redis_url)
    monkeypatch.setattr("tests.socket_server.conftest._announced", lambda _: announced(bus))
    worker = Resources.build(settings)
    async with running_node(settings) as node, running_api(settings) as api:
        api.headers["authorization"] = f"Bearer {api_key}"
        one = await device().connect(node.url, rooms=["*"], watch=["*"])
        await one.join("shop:order:42")
        assert (await one.call("watch", {"users": ["u_2"]}))["users"]["u_2"]["status"] == "offline"

        ingest(connection, "u_1", 3)
        await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
        await one.reach(3)
        await api.post("/v1/rooms/shop:order:42/events", json={"event": "x", "data": {"nth": 1}})
        await one.reach_in("shop:order:42", 1)
        two = await device().connect(node.url, "u_2")
        await eventually(lambda: one.statuses("u_2") == ["online"])
        assert (await api.get("/v1/presence?users=u_2")).json()["users"]["u_2"]["status"] == "online"
        assert (await api.get("/health/ready")).json()["parts"] == {"postgres": "ok", "redis": "ok", "bus": "ok"}

        assert main.keys("bellhop:node*") == []
        assert {key.decode().split(":")[1] for key in bus.keys("bellhop:*")} <= {"nodes", "node", "taken"}
        for each in (one, two):
            await each.client.disconnect()
    worker.close()
    for client in (bus, main):
        client.close()
