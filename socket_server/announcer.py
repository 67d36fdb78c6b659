"""Tells Redis what this node wants to hear of, so that only nodes that matter are addressed.

`Holdings` is the truth; Redis has a copy that vanishes with the node and is written anew when it differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models import redis_keys
from models.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.settings import Settings

log = structlog.get_logger(__name__)

_CHUNK = 1_000
_LONG_GONE_S = 60


class Holdings:
    """The keys of what somebody on this node follows; see `models.redis_keys`."""

    def __init__(self) -> None:
        self._holders: Counter[str] = Counter()

    def __contains__(self, key: str) -> bool:
        return key in self._holders

    def __len__(self) -> int:
        return len(self._holders)

    def hold(self, key: str) -> None:
        """Add one who follows."""
        self._holders[key] += 1

    def release(self, key: str) -> None:
        """Take one away."""
        self._holders[key] -= 1
        if self._holders[key] <= 0:
            del self._holders[key]

    def keys(self) -> list[str]:
        """Return all keys, as they are now."""
        return list(self._holders)


class Announcer:
    """Keeps the node's set in Redis equal to its holdings."""

    def __init__(self, client: redis.asyncio.Redis, node: str, holdings: Holdings, settings: Settings) -> None:
        self._redis = client
        self._node = node
        self._set = redis_keys.holdings(node)
        self._holdings = holdings
        self._interval_s = settings.node_heartbeat_s
        self._ttl_s = settings.node_ttl_s
        self._now = asyncio.Event()
        self._writing: set[asyncio.Task[None]] = set()
        self._missed = False  # something was not written: the set may differ, though its size be right
        self.update = Batcher[str, None](self._update, limit=_CHUNK)

    async def _update(self, keys: Sequence[str]) -> list[None]:
        """Write whether these keys are held now. A failure is mended by the next heartbeat."""
        here = [key for key in keys if key in self._holdings]
        gone = [key for key in keys if key not in self._holdings]
        try:
            async with asyncio.timeout(1.0):
                pipeline = self._redis.pipeline(transaction=False)
                if here:
                    pipeline.sadd(self._set, *here)
                    pipeline.pexpire(self._set, int(self._ttl_s * 1000))
                if gone:
                    pipeline.srem(self._set, *gone)
                await pipeline.execute()
        except (redis.RedisError, OSError, TimeoutError) as error:
            self._missed = True
            log.warning("holdings not written; the next heartbeat will", error=str(error) or type(error).__name__)
        return [None] * len(keys)

    def update_soon(self, key: str) -> None:
        """Write whether this key is held, and wait for nothing."""
        task = asyncio.create_task(self._write_soon(key), name=f"announce {key}")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_soon(self, key: str) -> None:
        await self.update(key)

    async def settle(self) -> None:
        """Return when all is written that is to be written soon."""
        await asyncio.gather(*self._writing, return_exceptions=True)

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
        """Say that the node lives, and write its set anew where Redis has another. Raises `redis.RedisError`."""
        now = time.time()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zadd(redis_keys.NODES, {self._node: now + self._ttl_s})
        pipeline.zremrangebyscore(redis_keys.NODES, "-inf", now - _LONG_GONE_S)
        pipeline.pexpire(self._set, int(self._ttl_s * 1000))
        pipeline.scard(self._set)
        *_, known = await pipeline.execute()
        if self._missed or known != len(self._holdings):
            self._missed = True
            await self._rewrite()
            self._missed = False

    async def _rewrite(self) -> None:
        keys = self._holdings.keys()
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(self._set)
        for start in range(0, len(keys), _CHUNK):
            pipeline.sadd(self._set, *keys[start : start + _CHUNK])
        pipeline.pexpire(self._set, int(self._ttl_s * 1000))
        await pipeline.execute()
        if changed := set(keys) ^ set(self._holdings.keys()):  # while the set was being written
            await self._update(list(changed))

    async def withdraw(self) -> None:
        """Say that the node is going away."""
        try:
            async with asyncio.timeout(1.0):
                await self._redis.zrem(redis_keys.NODES, self._node)
                await self._redis.unlink(self._set)
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.warning("could not withdraw; the heartbeat runs out", error=str(error) or type(error).__name__)
