"""`python -m socket_server`: serve one socket node. SIGTERM drains it: clients are sent away gently, then it ends."""

from __future__ import annotations

import socket
import sys

import structlog

from models.garbage import spare_what_exists
from models.settings import SettingsError, load_settings
from models.telemetry import configure_logging
from socket_server.main import create_app
from socket_server.serving import server_of

log = structlog.get_logger(__name__)

_TCP_USER_TIMEOUT_MS = 20_000  # a peer that acknowledges nothing for so long is gone


def main() -> None:
    """Serve until told to stop."""
    try:
        settings = load_settings().require_servers()
    except SettingsError as error:
        sys.exit(f"bellhop socket server cannot start: {error}")
    configure_logging(settings, "socket")
    server = server_of(create_app(settings), settings)
    spare_what_exists()
    listening = server.config.bind_socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
    log.info("serving", url=f"http://{settings.host}:{settings.socket_port}")
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
