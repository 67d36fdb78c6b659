"""What an emitter may say, and what is dropped of it. That the official one is understood, `tests/javascript` shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import redis.asyncio

from socket_server.emitters import RESERVED, read
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.settings import Settings
    from tests.socket_server.conftest import Device


def message(*rooms: Any, event: Any = "greeting", args: tuple[Any, ...] = ({"nth": 1},), **options: Any) -> bytes:
    packet = {"type": 2, "data": [event, *args], "nsp": "/"}
    packed: bytes = msgpack.packb(["emitter", packet, {"rooms": list(rooms), "except": [], "flags": {}, **options}])
    return packed


def test_an_event_is_read_with_those_it_is_for() -> None:
    keys, packet = read(
        message("user:u_1", "user:acme/u_2", "user:u_1", "user:u_3", "lobby", **{"except": ["user:u_3"]})
    )
    assert keys == ["default/u_1", "acme/u_2"]
    assert packet == b'2["greeting",{"nth":1}]'


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"noise",
        msgpack.packb(["emitter"]),
        msgpack.packb(["emitter", {}, {}]),
        msgpack.packb(["emitter", {"type": 2, "data": []}, {"rooms": ["user:u_1"]}]),
        msgpack.packb(["emitter", {"type": 3, "data": ["x"]}, {"rooms": ["user:u_1"]}]),
        message("user:u_1", event=1),
        message(),
        message("user:u_1", args=(b"\xff",)),
        *(message("user:u_1", event=name) for name in sorted(RESERVED)),
    ],
)
def test_refuses_what_is_no_event_for_users(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is|its|Bellhop"):
        read(wrong)


async def test_a_bad_message_and_a_cut_subscription_do_no_harm(
    settings: Settings, device: Callable[[], Device]
) -> None:
    async with (
        running_node(settings.model_copy(update={"emitter_key": "legacy"})) as node,
        redis.asyncio.Redis.from_url(settings.redis_url) as client,
    ):
        emitters = node.node._emitters
        assert emitters
        await emitters.subscribed.wait()
        one = await device().connect(node.url)
        heard: list[Any] = []
        one.client.on("greeting", lambda *args: heard.append(args))
        await client.publish("legacy#/#", b"noise")
        await client.client_kill_filter(_type="pubsub")
        await eventually(lambda: not emitters.subscribed.is_set())
        await emitters.subscribed.wait()
        await client.publish("legacy#/#user:u_1#", message("user:u_1"))
        await client.publish("socket.io#/#user:u_1#", message("user:u_1"))
        await eventually(lambda: heard)
        await asyncio.sleep(0.1)
        assert heard == [({"nth": 1},)]
        await one.client.disconnect()
