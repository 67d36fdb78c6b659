"""What clients send that they should not: each gets a clear answer, and the connection and its neighbours live on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import socketio

from socket_server import serving
from tests.api.test_access import BAD_TOKENS
from tests.conftest import token
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from tests.socket_server.conftest import Arrive, Device, Make, Running


async def refusal(device: Device, node: Running, auth: Any) -> dict[str, Any]:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await device.connect(node.url, auth=auth)
    data: dict[str, Any] = device.refusal["data"]
    assert data["detail"]
    return data


@pytest.mark.parametrize("what", BAD_TOKENS)
async def test_refuses_a_handshake_with_a_token_that_is(what: str, node: Running, device: Make) -> None:
    text, code = BAD_TOKENS[what]
    assert (await refusal(device(), node, {"token": text}))["code"] == code


@pytest.mark.parametrize("auth", [{}, {"token": 1}, {"since": 1}, "x", [1]])
async def test_refuses_a_handshake_without_a_token(auth: Any, node: Running, device: Make) -> None:
    assert (await refusal(device(), node, auth))["code"] == "token_invalid"


@pytest.mark.parametrize("since", [-1, "1", 1.5, 2**60, True])
async def test_refuses_a_since_that_is_no_number(since: Any, node: Running, device: Make) -> None:
    assert (await refusal(device(), node, {"token": token(), "since": since}))["code"] == "validation_failed"


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("ack", (), "validation_failed"),
        ("ack", ([1],), "validation_failed"),
        ("ack", ({"seq": -1},), "validation_failed"),
        ("ack", ({"seq": "1"},), "validation_failed"),
        ("ack", ({"seq": 5},), "ack_ahead"),
        ("ack", ({"seq": 1}, {"seq": 2}), "validation_failed"),
        ("sync", ({"since": 0, "limit": 501},), "validation_failed"),
        ("sync", ({"since": -1},), "validation_failed"),
        ("act", ({"action": "read"},), "validation_failed"),
        ("act", ({"action": "burn", "seqs": [1]},), "validation_failed"),
        ("act", ({"action": "read", "seqs": [1], "colour": 1},), "validation_failed"),
        ("act", ("read",), "validation_failed"),
        ("shout", ({},), "unknown_event"),
        ("connect", ({},), "unknown_event"),
    ],
)
async def test_answers_a_bad_event_and_goes_on(
    name: str, body: tuple[Any, ...], code: str, node: Running, device: Make, arrive: Arrive
) -> None:
    one = await device().connect(node.url)
    if body:
        answer = await one.call(name, *body)
        assert (answer["ok"], answer["error"]["code"]) == (False, code)
        assert answer["error"]["detail"]
    else:
        await one.client.emit(name)
    await eventually(lambda: one.errors)
    assert (one.errors[0]["code"], one.errors[0]["event"]) == (code, name)
    await arrive()
    await one.reach(1)


async def test_another_users_number_changes_nothing(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive("u_2")
    one = await device().connect(node.url, "u_1")
    assert (await one.call("act", {"action": "delete", "seqs": [1]}))["changed"] == 0


@pytest.mark.parametrize("text", ["y" * 70 * 1024, "є" * 35 * 1024])
async def test_a_message_over_64_kib_is_refused_with_the_limit_named(
    text: str, node: Running, device: Make, arrive: Arrive
) -> None:
    one = await device().connect(node.url)
    await one.client.emit("ack", {"seq": 0, "x": text})
    await eventually(lambda: one.errors)
    assert one.errors[0]["code"] == "message_too_large"
    assert "65536" in one.errors[0]["detail"]
    await arrive()
    await one.reach(1)


async def test_a_flood_is_limited_then_cut(node: Running, device: Make) -> None:
    one = await device().connect(node.url)
    for _ in range(3_000):
        await one.client.emit("ack", {"seq": 0})
        if not one.client.connected:
            break
    await eventually(lambda: not one.client.connected)
    limited = [error for error in one.errors if error["code"] == "rate_limited"]
    assert limited
    assert limited[0]["retry_in_ms"] >= 1


RAW = {
    "a binary event": '451-["ack",{"_placeholder":true,"num":0}]',
    "a binary acknowledgement": '4611-[{"_placeholder":true,"num":0}]',
    "an event that is no list": '42{"a":1}',
    "an empty list": "42[]",
    "an event without a name": "42[1,2]",
    "broken JSON": '42["ack"',
    "an unknown packet type": "49",
    "a connect error": '44{"message":"x"}',
    "nothing": "4",
}


@pytest.mark.parametrize("what", RAW)
async def test_a_packet_that_makes_no_sense_is_answered(what: str, node: Running) -> None:
    async with raw(node) as (websocket, received):
        await websocket.send_str(RAW[what])
        await eventually(lambda: any(text.startswith('42["error"') for text in received))
        await websocket.send_str('421["sync",{"since":0}]')
        await eventually(lambda: any(text.startswith('431[{"ok":true') for text in received))


async def test_bytes_that_belong_to_nothing_are_answered(node: Running) -> None:
    async with raw(node) as (websocket, received):
        await websocket.send_bytes(b"\x00\xff")
        await eventually(lambda: any(text.startswith('42["error"') for text in received))
        await websocket.send_str('421["sync",{"since":0}]')
        await eventually(lambda: any(text.startswith('431[{"ok":true') for text in received))


async def test_what_is_not_engine_io_ends_the_connection_and_no_more(
    node: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(node) as (websocket, _):
        await websocket.send_str("9")
        await eventually(lambda: not node.node._server.eio.sockets)
        await eventually(lambda: websocket.closed)
        assert websocket.close_code == 1000
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "message", ['421["ack",{"seq":0,"pad":"%s"}]' % ("x" * 70_000), '451-1["ack",{"_placeholder":true,"num":0}]']
)
async def test_what_is_read_no_further_is_answered_where_it_has_a_number(message: str, node: Running) -> None:
    async with raw(node) as (websocket, received):
        await websocket.send_str(message)
        await eventually(lambda: any(text.startswith('431[{"ok":false') for text in received))


async def test_whoever_is_refused_too_often_is_told_why_it_ends(node: Running) -> None:
    async with raw(node) as (websocket, received):
        for _ in range(210):
            await websocket.send_str('42["shout",{}]')
        await eventually(lambda: websocket.closed)
    last = json.loads(received[-1].removeprefix("42"))[1]
    assert (last["code"], last["event"]) == ("rate_limited", None)
    assert last["retry_in_ms"] > 0


async def test_a_failure_of_ours_is_not_called_theirs(
    node: Running, device: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise KeyError

    one = await device().connect(node.url)
    monkeypatch.setattr(node.node._receipts, "ack", break_down)
    answer = await one.call("ack", {"seq": 0})
    assert answer["error"]["code"] == "unavailable"
    assert one.client.connected


@pytest.mark.parametrize("name", ["/admin", "/admin/", "//", "/" + "x" * 1_000])
async def test_there_is_one_namespace(name: str, node: Running, device: Make, arrive: Arrive) -> None:
    async with raw(node) as (websocket, received):
        await websocket.send_str(f'40{name},{{"token":"{token()}"}}')
        await eventually(lambda: any(text.startswith(f"44{name},") for text in received))
        await websocket.send_str(f'42{name},7["ack",{{"seq":0}}]')  # it was not let in, and gets no answer
        await websocket.send_str('421["sync",{"since":0}]')
        await eventually(lambda: any(text.startswith('431[{"ok":true') for text in received))
        assert not any(text.startswith(f"43{name}") for text in received)


async def test_a_second_connect_changes_nothing(node: Running, device: Make, arrive: Arrive) -> None:
    async with raw(node) as (websocket, received):
        await websocket.send_str(f'40{{"token":"{token("somebody_else")}"}}')
        await arrive(user="somebody_else")
        await arrive()
        await eventually(lambda: any(text.startswith('42["inbox"') for text in received))
        assert sum(text.startswith("40") for text in received) <= 1
        assert list(node.node._registry.users()) == ["default/u_1"]


REQUEST = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_client_that_is_lost_in_the_middle_of_a_message_harms_nobody(
    node: Running, device: Make, arrive: Arrive
) -> None:
    one = await device().connect(node.url)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(node))
    writer.write(REQUEST)
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    writer.write(b"\x81\xfe\x01\x00\x00\x00\x00\x0040")  # a masked text of 256 bytes, of which two come
    await eventually(lambda: len(node.node._server.eio.sockets) == 2)
    writer.transport.abort()
    await eventually(lambda: len(node.node._server.eio.sockets) == 1)
    await arrive()
    await one.reach(1)


async def polling_session(node: Running) -> bytes:
    """Open a session by polling, and return its id."""
    url = f"{node.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as http, http.get(url) as opened:
        session: str = json.loads((await opened.text())[1:])["sid"]
        return session.encode()


HALF_A_BODY = b"POST /socket.io/?EIO=4&transport=polling&sid=%s HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n1"


@pytest.mark.parametrize("sent", [b"", REQUEST[:100], HALF_A_BODY])
async def test_half_a_request_is_not_waited_for(sent: bytes, node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_REQUEST_S", 0.3)
    if sent is HALF_A_BODY:
        sent %= await polling_session(node)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(node))
    writer.write(sent)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert not node.server.server_state.connections
    writer.close()


async def test_an_upgrade_that_goes_no_further_is_not_waited_for(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket_server.websocket._UPGRADE_S", 0.2)
    sid = (await polling_session(node)).decode()
    url = f"{node.url}/socket.io/?EIO=4&transport=websocket&sid={sid}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as websocket:
        message = await asyncio.wait_for(websocket.receive(), 5)
        assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_a_peer_that_went_without_a_word_is_noticed(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no ping, and its end of the connection stays open: as after a pulled cable."""
    monkeypatch.setattr(node.node._server.eio, "ping_interval", 0.2)
    monkeypatch.setattr(node.node._server.eio, "ping_timeout", 0.2)
    async with raw(node) as (_, received):
        await eventually(lambda: not node.node._server.eio.sockets)
        await eventually(lambda: not len(node.node._registry))
        assert "2" in received


async def test_a_forged_acknowledgement_is_ignored(node: Running) -> None:
    async with raw(node) as (websocket, received):
        await websocket.send_str('4399["x"]')
        await websocket.send_str('421["sync",{"since":0}]')
        await eventually(lambda: any(text.startswith('431[{"ok":true') for text in received))


async def test_a_socket_that_never_authenticates_is_closed(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket_server.server._UNAUTHENTICATED_S", 0.2)
    async with aiohttp.ClientSession() as http, http.ws_connect(_address(node)) as websocket:
        assert (await websocket.receive_str()).startswith("0")
        async with asyncio.timeout(5):
            while not websocket.closed:
                await websocket.receive()


async def test_a_client_that_leaves_while_it_connects_leaves_nothing_behind(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    original = type(node.node).connect

    async def slow(self: Any, *arguments: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await original(self, *arguments)

    monkeypatch.setattr(type(node.node), "connect", slow)
    async with aiohttp.ClientSession() as http:
        websocket = await http.ws_connect(_address(node))
        await websocket.receive_str()
        await websocket.send_str(f'40{{"token":"{token()}"}}')
        await entered.wait()
        await websocket.close()
    go_on.set()
    await eventually(lambda: not node.node._server.eio.sockets)
    assert len(node.node._registry) == 0
    assert node.node._server._connections == {}


def port_of(node: Running) -> int:
    return int(node.url.rpartition(":")[2])


def _address(node: Running) -> str:
    return f"{node.url}/socket.io/?EIO=4&transport=websocket"


class raw:  # noqa: N801  # reads like the function it stands for
    """A connection that can send what no client would."""

    def __init__(self, node: Running) -> None:
        self._node = node
        self._received: list[str] = []

    async def __aenter__(self) -> tuple[aiohttp.ClientWebSocketResponse, list[str]]:
        self._http = aiohttp.ClientSession()
        self._websocket = await self._http.ws_connect(_address(self._node))
        self._reader = asyncio.create_task(self._read())
        await self._websocket.send_str(f'40{{"token":"{token()}"}}')
        await eventually(lambda: any(text.startswith('42["ready"') for text in self._received))
        return self._websocket, self._received

    async def _read(self) -> None:
        async for message in self._websocket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._received.append(message.data)

    async def __aexit__(self, *_: object) -> None:
        await self._websocket.close()
        await self._reader
        await self._http.close()
