"""`python -m socket_server`: serve one socket node. SIGTERM drains it: clients are sent away gently, then it ends."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

import structlog
import uvicorn

from models.garbage import spare_what_exists
from models.settings import SettingsError, load_settings
from models.telemetry import configure_logging
from socket_server.main import create_app
from socket_server.websocket import WebSocketProtocol

if TYPE_CHECKING:
    from types import FrameType

    from socket_server.node import Node

log = structlog.get_logger(__name__)

_TCP_USER_TIMEOUT_MS = 20_000  # a peer that acknowledges nothing for so long is gone
_MOST_BYTES = 512 * 1024


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


def main() -> None:
    """Serve until told to stop."""
    try:
        settings = load_settings().require_servers()
    except SettingsError as error:
        sys.exit(f"bellhop socket server cannot start: {error}")
    configure_logging(settings, "socket")
    application = create_app(settings)
    config = uvicorn.Config(
        application.asgi,
        host=settings.host,
        port=settings.socket_port,
        loop="uvloop",
        http="httptools",
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
    spare_what_exists()
    listening = config.bind_socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
    log.info("serving", url=f"http://{settings.host}:{settings.socket_port}")
    DrainingServer(config, application.node).run(sockets=[listening])


if __name__ == "__main__":
    main()
