"""Who may begin a connection: not too many from one address, before anything is allocated for them.

An address that belongs to a trusted proxy stands for everybody behind it who could not be told apart; it is let in.
"""

from __future__ import annotations

import ipaddress
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from models import telemetry
from models.errors import RateLimitedError
from socket_server.rate import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BURST_S = 10
_MOST_ADDRESSES = 10_000
_NETWORK_BITS = 64  # of an IPv6 address: what is behind it is one customer's


class Door:
    """An ASGI application around another one."""

    def __init__(self, app: App, *, per_s: float, trusted_proxies: Sequence[str], node: str) -> None:
        self._app = app
        self._per_s = per_s
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted_proxies if each != "*"]
        self._node = node
        self._buckets: dict[str, TokenBucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        wait_s = self._wait_s(scope) if self._per_s and _begins_a_connection(scope) else 0.0
        if wait_s:
            telemetry.refusals.labels(self._node, RateLimitedError.code).inc()
            await _refuse(scope, send, math.ceil(wait_s))
        else:
            await self._app(scope, receive, send)

    def _wait_s(self, scope: Scope) -> float:
        address = _network_of(scope, self._trusted)
        if address is None:
            return 0.0
        bucket = self._buckets.get(address)
        if bucket is None:
            if len(self._buckets) >= _MOST_ADDRESSES:
                self._buckets.clear()
            bucket = self._buckets[address] = TokenBucket(self._per_s, max(1.0, self._per_s * _BURST_S))
        return bucket.take()


def _begins_a_connection(scope: Scope) -> bool:
    if scope["type"] not in {"http", "websocket"} or not scope["path"].startswith("/socket.io"):
        return False
    return "sid" not in parse_qs(scope["query_string"].decode("latin-1"))


def _network_of(scope: Scope, trusted: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> str | None:
    """Return what a client is counted by; None where it cannot be told from others."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if any(address in network for network in trusted):
        return None
    if address.version == 6:  # noqa: PLR2004  # the Internet protocol's
        return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
    return str(address)


async def _refuse(scope: Scope, send: Send, retry_in_s: int) -> None:
    """Answer 429, also to who asked for a WebSocket: the upgrade is refused."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    detail = "Too many connections from your address; try again later"
    error = RateLimitedError(detail, retry_in_ms=retry_in_s * 1000)
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"%d" % retry_in_s)]
    await send({"type": f"{kind}.start", "status": error.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": orjson.dumps(error.as_socket_error())})
