"""What becomes of nodes that went away: when their users were last seen is written down, and Redis forgets them.

Every node does it for every other, one of them for each. It may be done twice, or by nobody for a while; who asks
meanwhile finds the same answer in Redis.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models import redis_keys
from models.errors import UnavailableError

if TYPE_CHECKING:
    from models.presence import Host, PresenceStore

log = structlog.get_logger(__name__)

_TICK_S = 3.0  # who looks in between finds the same answer
_LOCKED_MS = 10_000
_CHUNK = 1_000


class Reaper:
    """Looks for nodes that are gone."""

    def __init__(self, client: redis.asyncio.Redis, node_id: str, store: PresenceStore) -> None:
        self._redis = client
        self._node_id = node_id
        self._store = store

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(_TICK_S * random.uniform(0.5, 1.5))  # noqa: S311  # so that nodes take turns
            try:
                await self.reap()
            except (redis.RedisError, OSError, UnavailableError) as error:
                log.info("nodes that are gone are noted later", error=str(error) or type(error).__name__)

    async def reap(self) -> None:
        """Note and forget all nodes that are gone. Raises `redis.RedisError`, `UnavailableError`."""
        for host in await self._store.hosts():
            lock = redis_keys.reaping(host.name)
            if not host.present and await self._redis.set(lock, self._node_id, nx=True, px=_LOCKED_MS):
                await self._note(host)
                await self._forget(host)

    async def _note(self, host: Host) -> None:
        users: list[str] = []
        async for member in self._redis.sscan_iter(redis_keys.holdings(host.name), count=_CHUNK):
            key = member.decode()
            if not redis_keys.is_room(key) and not redis_keys.is_watch(key):
                users.append(key)
        for start in range(0, len(users), _CHUNK):
            await self._store.record((key, host.until) for key in users[start : start + _CHUNK])
        log.info("a node is gone", node=host.name, users=len(users))

    async def _forget(self, host: Host) -> None:
        until = await self._redis.zscore(redis_keys.NODES, host.name)
        if until is not None and until > time.time():
            return  # it is back, and what it holds is its own
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.zrem(redis_keys.NODES, host.name)
        pipeline.zrem(redis_keys.DEPARTED, host.name)
        pipeline.unlink(redis_keys.holdings(host.name), redis_keys.notes(host.name), redis_keys.reaping(host.name))
        await pipeline.execute()
