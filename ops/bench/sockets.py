"""The receiving side: one connection per user, spoken by hand, so that thousands cost one process little.

Engine.IO 4 and Socket.IO 5 are a few prefixed text messages over a WebSocket. What is read here is exactly what a run
needs: the handshake, pings, events, and acknowledgements. Each arrival is timed when its bytes are read, before they
are decoded.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson
import picows

from ops.bench.endpoint import StackError, Wire
from ops.bench.recorder import InboxOrder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.bench.endpoint import Endpoint
    from ops.bench.recorder import Recorder

_TEXT = picows.WSMsgType.TEXT
_ENGINE_OPEN, _ENGINE_PING = b"0", b"2"
_CONNECTED, _REFUSED, _EVENT = b"40", b"44", b"42"
_ACK_AFTER_S = 0.02  # acknowledgements are cumulative: a client that waits this long sends few, and still promptly
_CONNECTING_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 60.0


class Crowd:
    """All connections of one run. Arrivals go to the recorder of the stream that they name."""

    def __init__(self, endpoint: Endpoint, prefix: str, streams: Mapping[str, Recorder]) -> None:
        self.endpoint = endpoint
        self.streams = streams
        self.closing = False
        self.dropped = 0
        self._prefix = prefix
        self._devices: list[_Device] = []

    def user(self, number: int) -> str:
        """Return the user to whom a numbered notification goes: round and round over all connections."""
        return f"{self._prefix}{number % len(self._devices)}"

    async def connect(self, users: int) -> float:
        """Connect one socket per user and return how many per second that were. Raises `StackError`."""
        gate = asyncio.Semaphore(_CONNECTING_AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                await self._connect_one(number)

        started = time.perf_counter()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.gather(*(one(number) for number in range(users)))
        except (OSError, picows.WSError) as error:  # a TimeoutError is an OSError
            ready = sum(device.is_ready for device in self._devices)
            msg = (
                f"{self.endpoint.label}: of {users} sockets, {len(self._devices)} could connect and {ready} were "
                f"welcomed within {_CONNECT_TIMEOUT_S:.0f} s: {error!r}"
            )
            raise StackError(msg) from error
        return users / (time.perf_counter() - started)

    async def _connect_one(self, number: int) -> None:
        token = self.endpoint.token_of(f"{self._prefix}{number}")
        urls = self.endpoint.socket_urls
        url = urls[number % len(urls)].replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
        kind = _NumberedDevice if self.endpoint.wire is Wire.NUMBERED else _PlainDevice
        device = kind(self, token)
        await picows.ws_connect(lambda: device, url)
        self._devices.append(device)
        await device.ready

    def arrived(self, data: dict[str, Any] | None, at: float) -> None:
        """Note the arrival of a notification that carries `data`."""
        if data and (recorder := self.streams.get(str(data.get("stream")))):
            recorder.arrived(data["number"], at)

    @property
    def order_violations(self) -> int | None:
        """How many frames broke the order; None where the stack promises none."""
        orders = [device.order for device in self._devices if device.order]
        return sum(order.violations for order in orders) if orders else None

    async def close(self) -> None:
        """Disconnect all."""
        self.closing = True
        for device in self._devices:
            device.disconnect()
        await asyncio.sleep(0)


class _Device(picows.WSListener):
    """One connection."""

    order: InboxOrder | None = None

    def __init__(self, crowd: Crowd, token: str) -> None:
        self._crowd = crowd
        self._connect = _CONNECTED + orjson.dumps({"token": token})
        self._transport: picows.WSTransport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        at = time.perf_counter()
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()
            return
        raw = frame.get_payload_as_bytes()
        if raw.startswith(_EVENT):
            begin = raw.index(b"[")
            if begin > len(_EVENT):  # a number before the payload: the server asks for a callback
                transport.send(_TEXT, b"43" + raw[len(_EVENT) : begin] + b"[]")
            name, *payload = orjson.loads(raw[begin:])
            self._on_event(name, payload[0] if payload else {}, at)
        elif raw.startswith(_ENGINE_PING):
            transport.send(_TEXT, b"3" + raw[1:])
        elif raw.startswith(_ENGINE_OPEN):
            transport.send(_TEXT, self._connect)
        elif raw.startswith(_CONNECTED):
            self._on_connected()
        elif raw.startswith(_REFUSED) and not self.ready.done():
            self.ready.set_exception(StackError(f"{self._crowd.endpoint.label} refused a socket: {raw[2:].decode()}"))

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002  # picows names it
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(StackError(f"{self._crowd.endpoint.label} closed a socket before it was ready"))
        elif not self._crowd.closing:
            self._crowd.dropped += 1

    @property
    def is_ready(self) -> bool:
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    def disconnect(self) -> None:
        if self._transport:
            self._transport.disconnect()

    def _send_event(self, name: str, payload: dict[str, Any]) -> None:
        if self._transport:
            self._transport.send(_TEXT, _EVENT + orjson.dumps([name, payload]))

    def _be_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def _on_connected(self) -> None:
        raise NotImplementedError

    def _on_event(self, name: str, payload: dict[str, Any], at: float) -> None:
        raise NotImplementedError


class _NumberedDevice(_Device):
    """A Bellhop client: checks the order of frames, and acknowledges up to the last number."""

    order: InboxOrder

    def __init__(self, crowd: Crowd, token: str) -> None:
        super().__init__(crowd, token)
        self.order = InboxOrder()
        self._to_ack: int | None = None

    def _on_connected(self) -> None:
        """Wait for `ready`, which names the number that this connection goes on from."""

    def _on_event(self, name: str, payload: dict[str, Any], at: float) -> None:
        if name == "inbox":
            entries = payload["entries"]
            self.order.frame(payload["from"], payload["to"], [entry["seq"] for entry in entries])
            for entry in entries:
                if entry["kind"] == "arrival":
                    self._crowd.arrived(entry["item"]["data"], at)
            if self._to_ack is None:
                asyncio.get_running_loop().call_later(_ACK_AFTER_S, self._acknowledge)
            self._to_ack = payload["to"]
        elif name == "ready":
            self.order.starts_after(payload["seq"])
            self._be_ready()

    def _acknowledge(self) -> None:
        seq, self._to_ack = self._to_ack, None
        if not self._crowd.closing:
            self._send_event("ack", {"seq": seq})


class _PlainDevice(_Device):
    """A client of any Socket.IO server that emits one event per notification."""

    def _on_connected(self) -> None:
        self._be_ready()

    def _on_event(self, name: str, payload: dict[str, Any], at: float) -> None:
        if name == "notification":
            self._crowd.arrived(payload.get("data"), at)
