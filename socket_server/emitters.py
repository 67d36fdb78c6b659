"""Events from emitters that speak to Socket.IO's Redis adapter, in whatever language, for users who are connected here.

Off unless the settings name the adapter's key. An event of another program reaches a user's sockets once at the most:
it has no number, no history, and nothing repairs it. The room `user:u_1` is a user of the default tenant, and
`user:acme/u_1` one of another. The format is that of @socket.io/redis-emitter 5: MessagePack of [sender, packet,
options] on the channel `socket.io#/#user:u_1#`, or on `socket.io#/#` where there are several rooms.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgpack
import orjson
import redis.asyncio
import structlog

from models import telemetry
from models.outage import Outage
from models.redis_keys import user_key
from models.tenants import DEFAULT_TENANT
from socket_server.outgoing import Prepared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socket_server.registry import Registry

log = structlog.get_logger(__name__)

_PAUSE_S = 0.5
_PING_S = 5.0
_EVENT = 2  # the packet's type
_USER = "user:"
RESERVED = {"ready", "inbox", "room", "presence", "error", "expiring", "drain", "connect", "disconnect"}


class Emitters:
    """Listens for them; starts anew after every failure."""

    def __init__(self, client: redis.asyncio.Redis, key: str, registry: Registry, node: str) -> None:
        self._redis = client
        self._pattern = f"{key}#/#*"
        self._registry = registry
        self._node = node
        self._frames = telemetry.frames_sent.labels(node, "emitted")
        self.subscribed = asyncio.Event()
        self._outage = Outage(log, "emitters are not heard")

    async def listen(self) -> None:
        """Listen for ever."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.psubscribe(self._pattern)
                    await self._read(channel)
            except (redis.RedisError, OSError) as error:
                self._outage.goes_on(error)
            self.subscribed.clear()
            await asyncio.sleep(_PAUSE_S)

    async def _read(self, channel: redis.asyncio.client.PubSub) -> None:
        silent = False
        while True:
            message = await channel.get_message(timeout=_PING_S)
            if message is None:
                if silent:
                    msg = "redis does not answer to a ping"
                    raise redis.ConnectionError(msg)
                silent = True
                await channel.ping()
                continue
            silent = False
            if message["type"] == "psubscribe":
                self.subscribed.set()
                self._outage.is_over()
            elif message["type"] == "pmessage":
                self._take(message["data"])

    def _take(self, message: bytes) -> None:
        try:
            keys, packet = read(message)
        except ValueError as error:
            telemetry.drops.labels(self._node, "emitted").inc()
            log.warning("an event of an emitter cannot be passed on", error=str(error))
            return
        prepared = Prepared(packet)
        for key in keys:
            for connection in list(self._registry.of_user(key)):
                if not connection.ready or connection.outgoing.full_to(1.0):
                    telemetry.drops.labels(self._node, "emitted").inc()
                else:
                    connection.outgoing.send_prepared(prepared)
                    self._frames.inc()


def read(message: bytes) -> tuple[list[str], bytes]:
    """Return for whom an emitter's message is, as keys, and its packet. Raises `ValueError`, which says why not."""
    try:
        _, packet, options = msgpack.unpackb(message)
        rooms, excepted = options["rooms"], set(options.get("except") or ())
        kind, data = packet["type"], packet["data"]
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        msg = "it is not a message of an emitter"
        raise ValueError(msg) from error
    if kind != _EVENT or not isinstance(data, list) or not data or not isinstance(data[0], str):
        msg = "it is not an event"
        raise ValueError(msg)
    if data[0] in RESERVED:
        msg = f"{data[0]!r} is a name of Bellhop's own events"
        raise ValueError(msg)
    if not rooms:
        msg = "it is for everybody; name rooms, such as user:u_1"
        raise ValueError(msg)
    try:
        return list(_keys(rooms, excepted)), b"2" + orjson.dumps(data)
    except (orjson.JSONEncodeError, TypeError) as error:
        msg = "its arguments are not JSON; binary data cannot be passed on"
        raise ValueError(msg) from error


def _keys(rooms: Iterable[Any], excepted: set[Any]) -> Iterable[str]:
    for room in dict.fromkeys(rooms):
        if isinstance(room, str) and room.startswith(_USER) and room not in excepted:
            tenant, slash, user = room.removeprefix(_USER).rpartition("/")
            yield user_key(tenant if slash else DEFAULT_TENANT, user)
