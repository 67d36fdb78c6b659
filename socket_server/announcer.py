"""Tells Redis what this node wants to hear of, so that only nodes that matter are addressed, and who is here.

`Holdings` is the truth; Redis has a copy that outlives the node only for as long as it takes to notice, and is written
anew when it differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models import redis_keys
from models.background import Background
from models.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.settings import Settings

log = structlog.get_logger(__name__)

_CHUNK = 1_000
_SLACK_S = 1.0


class Holdings:
    """The keys of what somebody on this node follows, and of the users here who are away; see `models.redis_keys`.

    Each key has one owner, who takes it in and lets it go.
    """

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._away: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def hold(self, key: str) -> None:
        """Take a key in."""
        self._keys.add(key)

    def release(self, key: str) -> None:
        """Let a key go."""
        self._keys.discard(key)
        self._away.discard(key)

    def keys(self) -> list[str]:
        """Return all keys, as they are now."""
        return list(self._keys)

    def mark(self, key: str, *, away: bool) -> bool:
        """Note whether a user who is held is away. Returns whether that is news."""
        if away == (key in self._away):
            return False
        (self._away.add if away else self._away.discard)(key)
        return True

    @property
    def away(self) -> frozenset[str]:
        """The users here who are away."""
        return frozenset(self._away)


class Announcer:
    """Keeps what Redis says of this node equal to its holdings."""

    def __init__(self, client: redis.asyncio.Redis, node: str, holdings: Holdings, settings: Settings) -> None:
        self._redis = client
        self._node = node
        self._set = redis_keys.holdings(node)
        self._away_set = redis_keys.away(node)
        self._holdings = holdings
        self._interval_s = settings.node_heartbeat_s
        self._ttl_s = settings.node_ttl_s
        self._kept_ms = int((settings.node_ttl_s + redis_keys.NOTICED_WITHIN_S) * 1000)
        self._now = asyncio.Event()
        self._background = Background()
        self._missed = False  # something was not written: the sets may differ, though their sizes be right
        self._withdrawn = False
        self._somebody_was_away = False  # there may be an away set, which is written only then
        self._announced = False
        self._forgotten_at = float("-inf")  # monotonic; when a heartbeat found that Redis did not know this node
        self.update = Batcher[str, None](self._update, limit=_CHUNK)

    async def _update(self, keys: Sequence[str]) -> list[None]:
        """Write what the holdings say of these keys now. A failure is mended by the next heartbeat."""
        here = [key for key in keys if key in self._holdings]
        gone = [key for key in keys if key not in self._holdings]
        try:
            async with asyncio.timeout(1.0):
                pipeline = self._redis.pipeline(transaction=False)
                if here:
                    pipeline.sadd(self._set, *here)
                    pipeline.pexpire(self._set, self._kept_ms)
                if gone:
                    pipeline.srem(self._set, *gone)
                self._write_away(pipeline, keys)
                await pipeline.execute()
        except (redis.RedisError, OSError, TimeoutError) as error:
            self._missed = True
            log.warning("holdings not written; the next heartbeat will", error=str(error) or type(error).__name__)
        return [None] * len(keys)

    def _write_away(self, pipeline: redis.asyncio.client.Pipeline, keys: Sequence[str]) -> None:
        away = self._holdings.away
        self._somebody_was_away |= bool(away)
        if not self._somebody_was_away:
            return
        if back := [key for key in keys if key not in away]:
            pipeline.srem(self._away_set, *back)
        if left := [key for key in keys if key in away]:
            pipeline.sadd(self._away_set, *left)
            pipeline.pexpire(self._away_set, self._kept_ms)

    def update_soon(self, key: str) -> None:
        """Write what the holdings say of this key, and wait for nothing."""
        self._background.run(self._update_later(key))

    async def _update_later(self, key: str) -> None:
        await self.update(key)

    async def settle(self) -> None:
        """Return when all is written that is to be written soon."""
        await self._background.settle()

    @property
    def was_forgotten(self) -> bool:
        """Whether Redis lost its memory so lately that others may not have announced themselves again yet."""
        return time.monotonic() - self._forgotten_at < 2 * self._interval_s + _SLACK_S

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
        """Say that the node lives, and write its sets anew where Redis has others. Raises `redis.RedisError`."""
        if self._withdrawn:
            return
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zadd(redis_keys.NODES, {self._node: time.time() + self._ttl_s})
        pipeline.zrem(redis_keys.DEPARTED, self._node)
        pipeline.pexpire(self._set, self._kept_ms)
        pipeline.pexpire(self._away_set, self._kept_ms)
        pipeline.scard(self._set)
        pipeline.scard(self._away_set)
        is_new, *_, held, away = await pipeline.execute()
        if is_new and self._announced:
            self._forgotten_at = time.monotonic()
        self._announced = True
        if self._missed or held != len(self._holdings) or away != len(self._holdings.away):
            self._missed = True
            await self._rewrite()
            self._missed = False

    async def _rewrite(self) -> None:
        keys, away = self._holdings.keys(), self._holdings.away
        pipeline = self._redis.pipeline(transaction=True)
        for name, members in ((self._set, keys), (self._away_set, list(away))):
            pipeline.delete(name)
            for start in range(0, len(members), _CHUNK):
                pipeline.sadd(name, *members[start : start + _CHUNK])
            pipeline.pexpire(name, self._kept_ms)
        await pipeline.execute()
        # while the sets were being written
        if changed := (set(keys) ^ set(self._holdings.keys())) | (away ^ self._holdings.away):
            await self._update(list(changed))

    async def withdraw(self, *, within_s: float = 0.0) -> None:
        """Say that the node goes away within so long: no pushes from now on, and its users count as gone after that.

        What it held stays, so that whoever notices can say when its users were last seen.
        """
        self._withdrawn = True  # no heartbeat brings it back
        try:
            async with asyncio.timeout(1.0):
                pipeline = self._redis.pipeline(transaction=True)
                pipeline.zrem(redis_keys.NODES, self._node)
                pipeline.zadd(redis_keys.DEPARTED, {self._node: time.time() + within_s}, nx=True)
                await pipeline.execute()
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.warning("could not withdraw; the heartbeat runs out", error=str(error) or type(error).__name__)
