"""The official Socket.IO client for JavaScript, by WebSocket, by polling, and by polling that upgrades."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ops.prove.replica import Replica
from tests.conftest import token
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    from models.settings import Settings
    from tests.javascript.conftest import JavaScript
    from tests.socket_server.conftest import Arrive, Make, Publish, Running

ROOM = "shop:order:42"
WAYS = pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="+".join)


@WAYS
async def test_everything_that_a_client_does(
    transports: list[str], node: Running, javascript: JavaScript, device: Make, arrive: Arrive, publish: Publish
) -> None:
    await arrive(how_many=2)
    mine = token(rooms=["shop:order:*"], watch=["*"])
    await javascript.do("connect", url=node.url, token=mine, transports=transports)
    (ready,) = await javascript.heard("ready")
    assert (ready["seq"], ready["head"], ready["counts"]["unread"]) == (2, 2, 2)

    await arrive()
    (frame,) = await javascript.heard("inbox")
    assert (frame["from"], frame["to"], frame["entries"][0]["item"]["data"]) == (3, 3, {"nth": 0})
    assert (await javascript.ask("act", action="read", seqs=[1, 3]))["counts"] == {"unread": 1, "unseen": 1}
    assert (await javascript.heard("inbox", 2))[1]["entries"][0]["action"] == "read"
    assert (await javascript.ask("sync", since=2, limit=10))["to"] == 4

    assert await javascript.ask("join", room=ROOM) == {"ok": True, "seq": 0, "head": 0, "reset": False}
    await publish(ROOM, [7])
    (frame,) = await javascript.heard("room")
    assert (frame["room"], frame["entries"][0]["data"]) == (ROOM, {"nth": 7})
    assert await javascript.ask("leave", room=ROOM) == {"ok": True}

    assert (await javascript.ask("watch", users=["u_2"]))["users"]["u_2"]["status"] == "offline"
    await device().connect(node.url, "u_2")
    assert (await javascript.heard("presence"))[0]["status"] == "online"
    assert await javascript.ask("unwatch", users=["u_2"]) == {"ok": True}
    assert await javascript.ask("status", status="away") == {"ok": True}
    assert (await javascript.ask("refresh", token=mine))["ok"]

    refused = await javascript.ask("join", room="blog:post:1")
    assert (refused["ok"], refused["error"]["code"]) == (False, "not_granted")
    (told,) = await javascript.heard("error")
    assert (told["event"], told["room"]) == ("join", "blog:post:1")
    assert await javascript.do("transport") == transports[-1]


@WAYS
async def test_after_any_loss_it_comes_back_by_itself_and_misses_nothing(
    transports: list[str], settings: Settings, node: Running, javascript: JavaScript, arrive: Arrive
) -> None:
    await javascript.do("connect", url=node.url, token=token(), transports=transports)
    await javascript.heard("ready")
    total = 0
    for times in range(2, 6):
        if times % 2:
            await javascript.do("drop")
        else:
            (held,) = node.node._registry.connections()
            await node.node._server.close(held.eio_sid)  # as a draining node does
        await arrive(how_many=3)
        total += 3
        await javascript.heard("ready", times)
        await eventually(lambda last=total: any(frame["to"] == last for frame in javascript.bodies("inbox")))
    replica = Replica()
    for frame in javascript.bodies("inbox"):
        replica.apply(frame)
    assert len(replica.items) == total


async def test_it_learns_why_it_is_refused(node: Running, javascript: JavaScript) -> None:
    await javascript.do("connect", url=node.url, token=token(secret="y" * 40), transports=["websocket"])
    refused = (await javascript.heard("connect_error"))[0]
    assert refused["code"] == "token_invalid"
    assert refused["detail"]


async def test_it_moves_on_when_a_node_drains(settings: Settings, javascript: JavaScript, arrive: Arrive) -> None:
    async with running_node(settings) as node:
        await javascript.do("connect", url=node.url, token=token(), transports=["websocket"], reconnection=False)
        await javascript.heard("ready")
        await node.node.drain()
        (told,) = await javascript.heard("drain")
        assert told["reconnect_in_ms"] >= 0
        (left,) = await javascript.heard("disconnect")
        # Not "io server disconnect", after which this client would not come back by itself.
        assert left["reason"] in {"transport close", "transport error"}


# --- emitters --------------------------------------------------------------------------------------------------------


async def test_an_emitter_reaches_a_user_of_the_default_tenant_and_of_another(
    settings: Settings, javascript: JavaScript, device: Make
) -> None:
    async with running_node(settings.model_copy(update={"emitter_key": "socket.io"})) as node:
        assert node.node._emitters
        await node.node._emitters.subscribed.wait()
        one, two = await device().connect(node.url), await device().connect(node.url, "u_2")
        heard = {"u_1": [], "u_2": []}  # type: ignore[var-annotated]
        one.client.on("greeting", lambda *args: heard["u_1"].append(args))
        two.client.on("greeting", lambda *args: heard["u_2"].append(args))
        for rooms, event in (
            (["user:u_1"], "greeting"),
            (["user:u_1"], "inbox"),  # a name of ours is not passed on
            ([], "greeting"),  # nor what is for everybody
            (["user:other/u_1", "elsewhere"], "greeting"),
            (["user:u_1", "user:u_2"], "greeting"),
        ):
            await javascript.do(
                "emitter", redis=settings.redis_url, rooms=rooms, event=event, args=[{"nth": 1}, "зустріч"]
            )
        await eventually(lambda: len(heard["u_1"]) == 2 and len(heard["u_2"]) == 1)
        assert heard["u_1"][0] == ({"nth": 1}, "зустріч")
        assert one.frames == []
        for each in (one, two):
            await each.client.disconnect()
