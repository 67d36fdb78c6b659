"""How a node is served: by uvicorn, which drains it when it is told to stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from socket_server.websocket import WebSocketProtocol

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from models.settings import Settings
    from socket_server.main import Application
    from socket_server.node import Node

_REQUEST_S = 10.0  # for all of a request to come
_CLOSE_S = 3.0  # for clients to read the last that they were sent; those who read nothing keep no node from ending
_MOST_BYTES = 512 * 1024


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's, which waits for ever for the rest of a request: this one hangs up."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(_REQUEST_S, transport.abort)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        self._patience.cancel()
        self._patience = self.loop.call_later(_REQUEST_S, self.transport.abort)
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Wait no longer: everything else has bounds of its own."""
        self._patience.cancel()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Wait no longer."""
        self._patience.cancel()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._patience.cancel()
        super().connection_lost(exc)


class DrainingServer(uvicorn.Server):
    """Drains the node before it lets uvicorn close what is left."""

    def __init__(self, config: uvicorn.Config, node: Node) -> None:
        super().__init__(config)
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is left; abort what its client does not let close."""
        deadline = asyncio.get_running_loop().call_later(_CLOSE_S, self._abort)
        await super().shutdown(sockets)
        deadline.cancel()

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal; end at once on the second."""
        if self._loop is None or self._node.draining:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self._start_draining, sig)

    def _start_draining(self, sig: int) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(sig))

    async def _drain(self, sig: int) -> None:
        try:
            await self._node.drain()
        finally:
            super().handle_exit(sig, None)


def server_of(application: Application, settings: Settings) -> DrainingServer:
    """Return the server of a node, as it runs everywhere."""
    config = uvicorn.Config(
        application.asgi,
        host=settings.host,
        port=settings.socket_port,
        loop="uvloop",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=_MOST_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_config=None,
        access_log=False,
        proxy_headers=True,
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return DrainingServer(config, application.node)
