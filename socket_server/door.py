"""Who may begin a connection: nobody while the node drains, and else not too many from one address.

They are refused before anything is allocated for them, with a status that tells a proxy whether to try another node.
An address that belongs to a trusted proxy stands for everybody behind it who could not be told apart; it is let in.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from models import telemetry
from models.errors import BellhopError, RateLimitedError, UnavailableError
from socket_server.rate import TokenBucket
from socket_server.websocket import WebSocketProtocol

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

    def __init__(
        self, app: App, *, per_s: float, trusted_proxies: Sequence[str], node: str, draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._per_s = per_s
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted_proxies if each != "*"]
        self._node = node
        self._draining = draining
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()  # who came last stands last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        error = self._refusal(scope) if _begins_a_connection(scope) else None
        if error is None:
            await self._app(scope, receive, send)
        else:
            telemetry.refusals.labels(self._node, error.code).inc()
            await _refuse(scope, send, error)

    def _refusal(self, scope: Scope) -> BellhopError | None:
        if self._draining():
            detail = "This node is going away; connect again"
            return UnavailableError(detail)
        wait_s = self._wait_s(scope) if self._per_s else 0.0
        if not wait_s:
            return None
        detail = "Too many connections from your address; try again later"
        return RateLimitedError(detail, retry_in_ms=math.ceil(wait_s) * 1000)

    def _wait_s(self, scope: Scope) -> float:
        address = _network_of(scope, self._trusted)
        if address is None:
            return 0.0
        bucket = self._buckets.get(address)
        if bucket is None:
            if len(self._buckets) >= _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[address] = TokenBucket(self._per_s, max(1.0, self._per_s * _BURST_S))
        self._buckets.move_to_end(address)
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


async def _refuse(scope: Scope, send: Send, error: BellhopError) -> None:
    """Answer over HTTP, also to who asked for a WebSocket: the upgrade is refused."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"%d" % (error.retry_after_s or 1))]
    await send({"type": f"{kind}.start", "status": error.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": orjson.dumps(error.as_socket_error())})
    protocol = getattr(send, "__self__", None)
    if isinstance(protocol, WebSocketProtocol):
        protocol.handshake_complete = True  # uvicorn 0.54 forgets it, and would log an error (its pull request 3138)
