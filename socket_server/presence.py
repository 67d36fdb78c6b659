"""Tells Redis which users this node holds, so that workers address only nodes that matter.

The registry is the truth; Redis holds a copy that vanishes with the node and is written anew when it differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models import redis_keys
from models.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.settings import Settings
    from socket_server.registry import Registry

log = structlog.get_logger(__name__)

_CHUNK = 1_000
_LONG_GONE_S = 60


class Presence:
    """Keeps the node's set of users in Redis equal to the registry."""

    def __init__(self, client: redis.asyncio.Redis, node: str, registry: Registry, settings: Settings) -> None:
        self._redis = client
        self._node = node
        self._users_key = redis_keys.node_users(node)
        self._registry = registry
        self._interval_s = settings.node_heartbeat_s
        self._ttl_s = settings.node_ttl_s
        self._now = asyncio.Event()
        self._missed = False  # something was not written: the set may differ, though its size be right
        self.update = Batcher[str, None](self._update, limit=_CHUNK)

    async def _update(self, users: Sequence[str]) -> list[None]:
        """Write what the registry says of these users now. A failure is mended by the next heartbeat."""
        here = [user for user in users if user in self._registry]
        gone = [user for user in users if user not in self._registry]
        try:
            async with asyncio.timeout(1.0):
                pipeline = self._redis.pipeline(transaction=False)
                if here:
                    pipeline.sadd(self._users_key, *here)
                    pipeline.pexpire(self._users_key, int(self._ttl_s * 1000))
                if gone:
                    pipeline.srem(self._users_key, *gone)
                await pipeline.execute()
        except (redis.RedisError, OSError, TimeoutError) as error:
            self._missed = True
            log.warning("presence not written; the next heartbeat will", error=str(error) or type(error).__name__)
        return [None] * len(users)

    def announce_soon(self) -> None:
        """Announce the node without waiting for the next turn: Redis may have forgotten it."""
        self._now.set()

    async def beat(self) -> None:
        """Announce the node for ever."""
        while True:
            self._now.clear()
            try:
                await self.announce()
            except (redis.RedisError, OSError) as error:
                log.warning("heartbeat failed", error=str(error) or type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._interval_s)

    async def announce(self) -> None:
        """Say that the node lives, and write its users anew where Redis holds others. Raises `redis.RedisError`."""
        now = time.time()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zadd(redis_keys.NODES, {self._node: now + self._ttl_s})
        pipeline.zremrangebyscore(redis_keys.NODES, "-inf", now - _LONG_GONE_S)
        pipeline.pexpire(self._users_key, int(self._ttl_s * 1000))
        pipeline.scard(self._users_key)
        *_, known = await pipeline.execute()
        if self._missed or known != len(self._registry.users()):
            self._missed = True
            await self._rewrite()
            self._missed = False

    async def _rewrite(self) -> None:
        users = self._registry.users()
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(self._users_key)
        for start in range(0, len(users), _CHUNK):
            pipeline.sadd(self._users_key, *users[start : start + _CHUNK])
        pipeline.pexpire(self._users_key, int(self._ttl_s * 1000))
        await pipeline.execute()
        if changed := set(users) ^ set(self._registry.users()):  # while the set was being written
            await self._update(list(changed))

    async def withdraw(self) -> None:
        """Say that the node is going away."""
        try:
            async with asyncio.timeout(1.0):
                await self._redis.zrem(redis_keys.NODES, self._node)
                await self._redis.unlink(self._users_key)
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.warning("could not withdraw; the heartbeat runs out", error=str(error) or type(error).__name__)
