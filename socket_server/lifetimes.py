"""How long connections may live: as long as their tokens, which can be exchanged, and not past a revocation."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from models import telemetry
from models.errors import BellhopError, TokenExpiredError, TokenRevokedError, WrongUserError
from models.frames import dumps, event_packet
from models.redis_keys import user_key

if TYPE_CHECKING:
    from models.settings import Settings
    from models.tokens import UserToken
    from socket_server.registry import Connection, Registry
    from socket_server.server import Server


class Lifetimes:
    """Tells connections that their token is about to end, and ends them."""

    def __init__(self, *, settings: Settings, server: Server, registry: Registry, node: str) -> None:
        self._warning_s = settings.token_warning_s
        self._grace_s = settings.token_grace_s
        self._server = server
        self._registry = registry
        self._node = node

    def begin(self, connection: Connection) -> None:
        """Measure a connection's life by its token, which may be a new one."""
        self.end(connection)
        if connection.closed:
            return
        loop = asyncio.get_running_loop()
        left_s = (connection.token.expires_at - datetime.now(UTC)).total_seconds()
        warn_in_s = max(left_s - self._warning_s, left_s / 2)
        if warn_in_s > 0:
            connection.timers.append(loop.call_later(warn_in_s, self._warn, connection))
        connection.timers.append(loop.call_later(max(0.0, left_s + self._grace_s), self._expire, connection))

    def end(self, connection: Connection) -> None:
        """Measure no more."""
        for timer in connection.timers:
            timer.cancel()
        connection.timers.clear()

    def exchange(self, connection: Connection, token: UserToken) -> None:
        """Give a connection a new token of the same user. Raises `WrongUserError`."""
        if (token.tenant, token.user) != (connection.token.tenant, connection.token.user):
            detail = "The new token must be for the user who is connected; to be somebody else, connect anew"
            raise WrongUserError(detail)
        connection.token = token
        self.begin(connection)

    def on_revocation(self, whose: tuple[str, str], revoked_at: datetime) -> None:
        """End a user's connections whose token was issued before."""
        for connection in list(self._registry.of_user(user_key(*whose))):
            issued_at = connection.token.issued_at
            if issued_at is None or issued_at < revoked_at:
                self._close(connection, TokenRevokedError())

    def _warn(self, connection: Connection) -> None:
        if not connection.ready:  # `ready`, which comes first, says when the token ends
            return
        expires_at = connection.token.expires_at
        self._server.send(connection, event_packet("expiring", dumps({"expires_at": expires_at})))
        telemetry.frames_sent.labels(self._node, "expiring").inc()

    def _expire(self, connection: Connection) -> None:
        self._close(connection, TokenExpiredError())

    def _close(self, connection: Connection, error: BellhopError) -> None:
        telemetry.drops.labels(self._node, error.code).inc()
        self._server.send_error(connection, error, None)
        self._server.close_soon(connection.eio_sid)
