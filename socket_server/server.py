"""The seam to python-socketio and Engine.IO. Everything that leans on their insides is in this module.

It keeps their protocol handling, and takes over what they do slowly or without bounds: clients are in no rooms, events
are dispatched in order without tasks, packets that are encoded already go straight onto the transport's queue, and
transports that never authenticate are closed. Written for python-socketio 5.18 and python-engineio 4.15;
`tests/socket_server` watches it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import socketio
import structlog
from engineio.packet import MESSAGE, Packet

from models.errors import (
    BellhopError,
    MessageTooLargeError,
    RateLimitedError,
    UnavailableError,
    UnknownEventError,
    ValidationFailedError,
)
from models.fields import MAX_SOCKET_MESSAGE_BYTES
from socket_server.outgoing import Outgoing
from socket_server.websocket import WebSocketTransport

if TYPE_CHECKING:
    from engineio.async_socket import AsyncSocket

    from socket_server.registry import Connection

log = structlog.get_logger(__name__)

_UNAUTHENTICATED_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_PENANCE_MS = 10_000  # what a client is asked to wait when too much of what it sent was refused
_HARD_LIMIT = 4 * MAX_SOCKET_MESSAGE_BYTES  # past it the transport is closed; up to it the client is told
_ROOT = "/"
_ACK_ID = re.compile(r"(?:2|5\d{1,9}-)(?:/,)?(\d{1,9})\[")  # of an event, or of one with attachments


def _engineio_log() -> logging.Logger:
    """Return Engine.IO's logger, for failures only: it calls requests of unknown sessions errors, too."""
    logger = logging.getLogger("engineio.server")
    logger.setLevel(logging.ERROR)
    logger.addFilter(_failures_only)
    return logger


def _failures_only(record: logging.LogRecord) -> bool:
    return record.exc_info is not None


class Json:
    """orjson in the shape that the packet classes expect."""

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        """Encode."""
        return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()

    @staticmethod
    def loads(text: str | bytes, **_: object) -> Any:  # noqa: ANN401  # JSON is anything
        """Decode. Raises `ValueError`."""
        return orjson.loads(text)


class Handler(Protocol):
    """What the server calls."""

    async def connect(self, eio_sid: str, environ: dict[str, Any], auth: object) -> Connection:
        """Check a handshake. Raises `BellhopError`, which becomes the client's `connect_error`."""

    def connected(self, connection: Connection) -> None:
        """Go on with a connection whose CONNECT packet is on its way."""

    def disconnected(self, eio_sid: str) -> None:
        """Forget a connection."""

    async def event(self, connection: Connection, name: str, arguments: list[Any]) -> dict[str, Any]:
        """Return the answer to a client event. Raises `BellhopError`."""

    def abuse(self, connection: Connection, error: BellhopError) -> bool:
        """Note a refusal; return whether the connection has had too many of them."""


class Server(socketio.AsyncServer):  # type: ignore[misc]  # the library has no types
    """A Socket.IO server that serves one namespace, for one handler."""

    def __init__(self, *, cors_origins: tuple[str, ...]) -> None:
        origins: str | list[str] | None = list(cors_origins) or None
        super().__init__(
            async_mode="asgi",
            json=Json,
            logger=False,
            engineio_logger=_engineio_log(),
            cors_allowed_origins="*" if "*" in cors_origins else origins,
            async_handlers=False,
            namespaces=[_ROOT],
            max_http_buffer_size=_HARD_LIMIT,
            ping_interval=25,
            ping_timeout=20,
            http_compression=False,
        )
        self.eio.create_queue = Outgoing  # the library's has no bounds and does not know its size
        self.eio._async = {**self.eio._async, "websocket": WebSocketTransport}  # noqa: SLF001  # it has no other door
        self.handler: Handler
        self._connections: dict[str, Connection] = {}
        self._connecting: set[str] = set()

    # --- out -------------------------------------------------------------------------------------------------

    def send(self, connection: Connection, packet: bytes) -> None:
        """Put an encoded Socket.IO packet to a client. Never waits; the caller watches `connection.outgoing`."""
        connection.outgoing.send(packet)

    def send_error(self, connection: Connection, error: BellhopError, event: str | None) -> None:
        """Tell a client why what it sent was refused."""
        body = orjson.dumps(["error", {**error.as_socket_error(), "event": event}])
        self.send(connection, b"2" + body)

    async def close(self, eio_sid: str) -> None:
        """Close a transport; a JavaScript client then reconnects by itself.

        Engine.IO's own `disconnect` waits until the client has read everything, and leaves the WebSocket to a client
        that does not heed the CLOSE packet. This one waits for nobody and ends the writer, which closes the WebSocket.
        The packet goes to who polls only: python-engineio's client, when it gets one, waits for half a minute before it
        comes back (4.15).
        """
        transport = self.eio.sockets.pop(eio_sid, None)
        if transport is not None:
            await transport.close(wait=False, abort=transport.upgraded, reason=self.reason.SERVER_DISCONNECT)
            transport.queue.put_nowait(None)

    def close_soon(self, eio_sid: str) -> None:
        """Close a transport from within a task that ends with it."""
        self.start_background_task(self.close, eio_sid)

    # --- in --------------------------------------------------------------------------------------------------

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._close_unless_authenticated(eio_sid)

    def _close_unless_authenticated(self, eio_sid: str) -> None:
        def check() -> None:
            if eio_sid not in self._connections and eio_sid in self.eio.sockets:
                self.close_soon(eio_sid)

        asyncio.get_running_loop().call_later(_UNAUTHENTICATED_S, check)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:  # noqa: ANN401
        """Answer a CONNECT packet.

        The library's own enters each client into a room, and looks through all rooms for it when it leaves: where
        thousands leave at once, that stands everything still.
        """
        transport = self.eio.sockets.get(eio_sid)
        if transport is None:
            return
        if (namespace or _ROOT) != _ROOT:
            detail = {"code": ValidationFailedError.code, "detail": "There is no namespace but /"}
            self._refuse_connection(transport, "No such namespace", detail, f"{namespace},")
            return
        if eio_sid in self._connections or eio_sid in self._connecting:
            return  # a second CONNECT on the same transport
        self._connecting.add(eio_sid)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                connection = await self.handler.connect(eio_sid, self.environ[eio_sid], data)
        except BellhopError as error:
            self._refuse_connection(transport, error.title, error.as_socket_error())
        except TimeoutError:
            detail = {"code": "unavailable", "detail": "The handshake took too long; try again"}
            self._refuse_connection(transport, "Try again", detail)
        except Exception:
            log.exception("a handshake failed for a reason that nobody foresaw")
            detail = {"code": UnavailableError.code, "detail": "Something went wrong on the server; try again"}
            self._refuse_connection(transport, "Try again", detail)
        else:
            self._connections[eio_sid] = connection
            self.send(connection, b'0{"sid":"%b"}' % connection.session.encode())
            self.handler.connected(connection)
        finally:
            self._connecting.discard(eio_sid)

    def _refuse_connection(
        self, transport: AsyncSocket, message: str, data: dict[str, Any], namespace: str = ""
    ) -> None:
        body = orjson.dumps({"message": message, "data": data}).decode()
        transport.queue.put_nowait(Packet(MESSAGE, f"4{namespace}{body}"))

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        connection = self._connections.get(eio_sid)
        try:
            size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
            if size > MAX_SOCKET_MESSAGE_BYTES:
                detail = f"A message may have at most {MAX_SOCKET_MESSAGE_BYTES} bytes; this one has {size}"
                raise MessageTooLargeError(detail)
            if isinstance(data, bytes) or data[:1] in ("5", "6"):
                detail = "Binary messages are not part of this API; send JSON"
                raise ValidationFailedError(detail)
            try:
                await super()._handle_eio_message(eio_sid, data)
            except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
                detail = "This is not a Socket.IO packet that the server understands"
                raise ValidationFailedError(detail) from error
        except BellhopError as error:
            if connection is None:
                await self.close(eio_sid)
            else:
                await self._refuse(connection, error, None, _ack_id(data))

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:  # noqa: A002, ANN401
        connection = self._connections.get(eio_sid)
        if connection is None or (namespace or _ROOT) != _ROOT:
            return
        name = data[0] if isinstance(data, list) and data and isinstance(data[0], str) else None
        if name is None:
            await self._refuse(connection, UnknownEventError("An event needs a name"), None, id)
            return
        try:
            answer = await self.handler.event(connection, name, data[1:])
        except BellhopError as error:
            await self._refuse(connection, error, name, id)
        except Exception:
            log.exception("an event failed for a reason that nobody foresaw", name=name, session=connection.session)
            await self._refuse(connection, UnavailableError("Something went wrong on the server; try again"), name, id)
        else:
            if id is not None:
                self._answer(connection, id, answer)

    def _answer(self, connection: Connection, ack_id: int, answer: dict[str, Any]) -> None:
        self.send(connection, b"3%d%b" % (ack_id, orjson.dumps([answer], option=orjson.OPT_UTC_Z)))

    async def _refuse(self, connection: Connection, error: BellhopError, event: str | None, ack_id: int | None) -> None:
        if ack_id is not None:
            self._answer(connection, ack_id, {"ok": False, "error": error.as_socket_error()})
        self.send_error(connection, error, event)
        if self.handler.abuse(connection, error):
            detail = "Too much of what you sent was refused, and the connection is closed; wait before you come back"
            self.send_error(connection, RateLimitedError(detail, retry_in_ms=_PENANCE_MS), None)
            await self.close(connection.eio_sid)

    async def _handle_ack(self, eio_sid: str, namespace: str | None, id: int, data: Any) -> None:  # noqa: A002, ANN401
        """Ignore answers to callbacks: the server asks for none."""

    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:  # noqa: ARG002
        """Let a client leave the namespace; its transport may stay for a moment."""
        if (namespace or _ROOT) == _ROOT and eio_sid in self._connections:
            self._forget(eio_sid)
            self._close_unless_authenticated(eio_sid)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:  # noqa: ARG002
        self.environ.pop(eio_sid, None)
        self._forget(eio_sid)
        transport = self.eio.sockets.get(eio_sid)
        if transport is not None:
            transport.queue.put_nowait(None)  # answers a long poll that still waits; Engine.IO would let it hang

    def _forget(self, eio_sid: str) -> None:
        if self._connections.pop(eio_sid, None) is not None:
            self.handler.disconnected(eio_sid)


def _ack_id(message: str | bytes) -> int | None:
    """Return by which number a message that is not read any further wants to be answered."""
    found = _ACK_ID.match(message) if isinstance(message, str) else None
    return int(found[1]) if found else None
