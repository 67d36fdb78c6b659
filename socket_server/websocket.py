"""WebSockets under Engine.IO: what it does per message with two tasks, a timer and three queues, done with none.

`WebSocketProtocol` is uvicorn's, written to without a detour; `WebSocketTransport` takes the place of Engine.IO's
WebSocket in its ASGI driver. Written for uvicorn 0.54 and python-engineio 4.15; `tests/socket_server` watches it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog
from engineio.exceptions import SocketIsClosedError, UnknownPacketError
from engineio.packet import NOOP, Packet
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from engineio.async_socket import AsyncSocket

    from socket_server.outgoing import Outgoing

log = structlog.get_logger(__name__)

_UPGRADE_S = 10.0  # for a client that polled to say that it has gone over
_MESSAGES_AHEAD = 8  # read from a client before what it sent is handled
_PROBE, _PROBED, _UPGRADE = "2probe", b"3probe", "5"
_EXTENDED = 126  # in place of a length: it follows in two bytes; one more, and it follows in eight


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def write_frame(self, frame: bytes) -> bool:
        """Write a frame at once. Returns False where the client has to read something first, or is gone."""
        if (
            not self.writable.is_set()
            or self.disconnected
            or self.close_sent
            or not self.handshake_complete
            or self.transport.is_closing()
        ):
            return False
        self.transport.write(frame)
        return True

    async def until_writable(self) -> bool:
        """Wait until the client has read enough. Returns False where it is gone."""
        await self.writable.wait()
        return not (self.disconnected or self.close_sent)

    async def end(self) -> None:
        """Close the connection."""
        if not (self.disconnected or self.close_sent):
            await self.send({"type": "websocket.close", "code": 1000, "reason": ""})

    def abort(self) -> None:
        """Close the connection at once, for a client that does not read."""
        if not self.disconnected:
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        """Hand a message over. Uvicorn stops reading from the socket at each; here, once some are waiting."""
        paused = self.read_paused
        if not paused and self.queue.qsize() < _MESSAGES_AHEAD:
            self.read_paused = True
            super().send_receive_event_to_app()
            self.read_paused = False
        else:
            super().send_receive_event_to_app()


def text_frame(message: bytes) -> bytes:
    """Return a whole text message, which is UTF-8 already, as a server's WebSocket frame (RFC 6455, section 5.2).

    No extension is agreed on and a server masks nothing, so a message looks the same to each client that gets it.
    """
    length = len(message)
    if length < _EXTENDED:
        return b"\x81%c%b" % (length, message)
    if length < 1 << 16:
        return b"\x81%c%b%b" % (_EXTENDED, length.to_bytes(2), message)
    return b"\x81%c%b%b" % (_EXTENDED + 1, length.to_bytes(8), message)


class WebSocketTransport:
    """Reads what a client sends, in order, and lets its `Outgoing` write. In place of `engineio`'s `WebSocket`."""

    def __init__(self, handler: Any, server: Any) -> None:  # noqa: ANN401  # the library has no types
        self._socket: AsyncSocket = handler.__self__
        self._server = server

    async def __call__(self, environ: dict[str, Any]) -> str:
        """Serve the connection until it ends."""
        receive: Callable[[], Any] = environ["asgi.receive"]
        protocol = environ["asgi.send"].__self__
        if not isinstance(protocol, WebSocketProtocol):
            msg = "serve the socket server with `ws=WebSocketProtocol`, and wrap `send` in nothing"
            raise TypeError(msg)
        await protocol.send({"type": "websocket.accept"})
        if await self._is_upgraded(protocol, receive):
            cast("Outgoing", self._socket.queue).write_to(protocol)
            await self._read(receive)
            await protocol.end()
        return ""

    async def _is_upgraded(self, protocol: WebSocketProtocol, receive: Callable[[], Any]) -> bool:
        try:
            async with asyncio.timeout(_UPGRADE_S):
                return await self._upgraded(protocol, receive)
        except TimeoutError:
            protocol.abort()
            return False

    async def _upgraded(self, protocol: WebSocketProtocol, receive: Callable[[], Any]) -> bool:
        """Agree with a client that polled until now on going over to the WebSocket."""
        socket = self._socket
        if socket.connected:
            socket.upgrading = True
            try:
                if await _message(receive) != _PROBE:
                    return False
                protocol.write_frame(text_frame(_PROBED))
                socket.queue.put_nowait(Packet(NOOP))  # ends the poll that waits
                if await _message(receive) != _UPGRADE:
                    return False
            finally:
                socket.upgrading = False
        socket.connected = socket.upgraded = True
        return True

    async def _read(self, receive: Callable[[], Any]) -> None:
        socket = self._socket
        while (message := await _message(receive)) is not None and len(message) <= self._server.max_http_buffer_size:
            try:
                packet = Packet(encoded_packet=message)
            except ValueError:
                break  # not Engine.IO
            if packet.packet_type > NOOP:
                break  # nor this
            try:
                await socket.receive(packet)
            except UnknownPacketError:
                log.debug("a packet that means nothing here", session=socket.sid)
            except SocketIsClosedError:
                break
        await socket.close(wait=False, abort=True, reason=self._server.reason.TRANSPORT_CLOSE)


async def _message(receive: Callable[[], Any]) -> str | bytes | None:
    """Return the next message, or None where the connection has ended."""
    event = await receive()
    if event["type"] != "websocket.receive":
        return None
    return cast("str | bytes | None", event.get("text") or event.get("bytes") or "")
