"""The receiving side: one connection per user, spoken by hand, so that thousands cost one process little.

Engine.IO 4 and Socket.IO 5 are a few prefixed text messages over a WebSocket. What is read here is exactly what a run
needs: the handshake, pings, events, and acknowledgements. Each arrival is timed when its bytes are read, before they
are decoded.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import orjson
import picows

from ops.bench.endpoint import StackError, Wire
from ops.bench.recorder import InboxOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ops.bench.endpoint import Endpoint
    from ops.bench.recorder import Recorder

_TEXT = picows.WSMsgType.TEXT
_ENGINE_OPEN, _ENGINE_PING = b"0", b"2"
_CONNECTED, _REFUSED, _EVENT, _ANSWER = b"40", b"44", b"42", b"43"
_ACK_AFTER_S = 0.02  # acknowledgements are cumulative: a client that waits this long sends few, and still promptly
_CONNECTING_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 60.0
_CLIENT_PATIENCE_S = 20.0  # as long as a JavaScript client waits for one attempt
_PATH = "/socket.io/?EIO=4&transport=websocket"


class Crowd:
    """All connections of one run, one per user. Arrivals go to the recorder of the stream that they name."""

    def __init__(self, endpoint: Endpoint, prefix: str, streams: Mapping[str, Recorder]) -> None:
        self.endpoint = endpoint
        self.streams = streams
        self.closing = False
        self.dropped = 0
        self.on_drop: Callable[[int], None] = self._count_drop  # told the number of a user whose socket closed unasked
        self._prefix = prefix
        self._tokens: list[str] = []
        self._devices: dict[int, Device] = {}

    def user(self, number: int) -> str:
        """Return the user to whom a numbered notification goes: round and round over all connections."""
        return f"{self._prefix}{number % len(self._devices)}"

    async def connect(self, users: int, urls: Sequence[str] = ()) -> float:
        """Connect one socket per user, spread over `urls` (all, for none), and return how many per second that were.

        Their tokens are made before the clock starts. Raises `StackError`.
        """
        gate = asyncio.Semaphore(_CONNECTING_AT_ONCE)
        urls = urls or self.endpoint.socket_urls
        self._tokens = [self.token_of(f"{self._prefix}{number}") for number in range(users)]

        async def one(number: int) -> None:
            async with gate:
                await self._connect_one(number, urls[number % len(urls)])

        started = time.perf_counter()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.gather(*(one(number) for number in range(users)))
        except (OSError, picows.WSError) as error:  # a TimeoutError is an OSError
            msg = (
                f"{self.endpoint.label}: of {users} sockets, {len(self._devices)} could connect and {self.ready_count} "
                f"were welcomed within {_CONNECT_TIMEOUT_S:.0f} s: {error!r}"
            )
            raise StackError(msg) from error
        return users / (time.perf_counter() - started)

    async def reconnect(self, number: int, url: str) -> None:
        """Let a user's client, whose socket is gone, come back and go on from what it has.

        Raises `OSError` (also where it takes longer than a client waits), `picows.WSError` or `StackError`; the client
        can then try again.
        """
        async with asyncio.timeout(_CLIENT_PATIENCE_S):
            await self._connect_one(number, url, self._devices[number].order)

    async def _connect_one(self, number: int, url: str, order: InboxOrder | None = None) -> None:
        device = self.new_device(number, self._tokens[number], order)
        where = url.replace("http", "ws", 1) + _PATH
        await picows.ws_connect(lambda: device, where, websocket_handshake_timeout=_CLIENT_PATIENCE_S)
        self._devices[number] = device
        try:
            await device.ready
        except BaseException:
            device.disconnect()
            raise

    def token_of(self, user: str) -> str:
        """Return the token that a user connects with."""
        return self.endpoint.token_of(user)

    def new_device(self, number: int, token: str, order: InboxOrder | None) -> Device:
        """Return what speaks for a user."""
        kind = NumberedDevice if self.endpoint.wire is Wire.NUMBERED else PlainDevice
        return kind(self, number, token, order)

    def device(self, number: int) -> Device:
        """Return a user's connection."""
        return self._devices[number]

    @property
    def ready_count(self) -> int:
        """How many connections were welcomed and are there."""
        return sum(device.is_ready for device in self._devices.values())

    def _count_drop(self, _number: int) -> None:
        self.dropped += 1

    def arrived(self, data: dict[str, Any] | None, at: float) -> None:
        """Note the arrival of a notification that carries `data`."""
        if data and (recorder := self.streams.get(str(data.get("stream")))):
            recorder.arrived(data["number"], at)

    @property
    def order_violations(self) -> int | None:
        """How many frames broke the order; None where the stack promises none."""
        orders = [device.order for device in self._devices.values() if device.order]
        return sum(order.violations for order in orders) if orders else None

    async def close(self) -> None:
        """Disconnect all."""
        self.closing = True
        for device in self._devices.values():
            device.disconnect()
        await asyncio.sleep(0)


class Device(picows.WSListener):
    """One connection of one user."""

    def __init__(self, crowd: Crowd, number: int, token: str, order: InboxOrder | None) -> None:
        self.order = order
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.number = number
        self._crowd = crowd
        self._token = token
        self._transport: picows.WSTransport | None = None
        self._ask_numbers = itertools.count()
        self._asked: dict[bytes, asyncio.Future[dict[str, Any]]] = {}

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Keep the transport; the server speaks first."""
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Time and read one message."""
        at = time.perf_counter()
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()
            return
        raw = frame.get_payload_as_bytes()
        if raw.startswith(_EVENT):
            begin = raw.index(b"[")
            if begin > len(_EVENT):  # a number before the payload: the server asks for a callback
                transport.send(_TEXT, _ANSWER + raw[len(_EVENT) : begin] + b"[]")
            name, *payload = orjson.loads(raw[begin:])
            self._on_event(name, payload[0] if payload else {}, at)
        elif raw.startswith(_ANSWER):
            begin = raw.index(b"[")
            self._asked.pop(raw[len(_ANSWER) : begin]).set_result(orjson.loads(raw[begin:])[0])
        elif raw.startswith(_ENGINE_PING):
            transport.send(_TEXT, b"3" + raw[1:])
        elif raw.startswith(_ENGINE_OPEN):
            transport.send(_TEXT, _CONNECTED + orjson.dumps(self._auth()))
        elif raw.startswith(_CONNECTED):
            self._on_connected()
        elif raw.startswith(_REFUSED) and not self.ready.done():
            self.ready.set_exception(StackError(f"{self._crowd.endpoint.label} refused a socket: {raw[2:].decode()}"))

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002  # picows names it
        """Tell whoever waits, or the crowd."""
        self._transport = None
        for answered in self._asked.values():
            answered.set_exception(StackError(f"{self._crowd.endpoint.label} closed a socket before it answered"))
        if not self.ready.done():
            self.ready.set_exception(StackError(f"{self._crowd.endpoint.label} closed a socket before it was ready"))
        elif self._was_welcomed and not self._crowd.closing:
            self._crowd.on_drop(self.number)

    @property
    def _was_welcomed(self) -> bool:
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    @property
    def is_ready(self) -> bool:
        """Whether it was welcomed and is there."""
        return self._transport is not None and self._was_welcomed

    def disconnect(self) -> None:
        """Close it without waiting."""
        if self._transport:
            self._transport.disconnect()

    async def ask(self, name: str, payload: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Send an event and return its answer, and after how many seconds it came."""
        number = b"%d" % next(self._ask_numbers)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        if self._transport is None:
            msg = f"{self._crowd.endpoint.label} closed a socket that was in use"
            raise StackError(msg)
        self._transport.send(_TEXT, _EVENT + number + orjson.dumps([name, payload]))
        answer = await answered
        return answer, time.perf_counter() - started

    def _auth(self) -> dict[str, Any]:
        return {"token": self._token}

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


class NumberedDevice(Device):
    """A Bellhop client: checks the order of frames, and acknowledges up to the last number.

    With the `order` of a connection before it, it asks for what that one has not seen.
    """

    order: InboxOrder

    def __init__(self, crowd: Crowd, number: int, token: str, order: InboxOrder | None) -> None:
        super().__init__(crowd, number, token, order or InboxOrder())
        self._to_ack: int | None = None

    def _auth(self) -> dict[str, Any]:
        since = self.order.last
        return super()._auth() if since is None else {**super()._auth(), "since": since}

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


class PlainDevice(Device):
    """A client of any Socket.IO server that emits one event per notification."""

    def _on_connected(self) -> None:
        self._be_ready()

    def _on_event(self, name: str, payload: dict[str, Any], at: float) -> None:
        if name == "notification":
            self._crowd.arrived(payload.get("data"), at)
