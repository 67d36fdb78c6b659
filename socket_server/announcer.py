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
from models.outage import Outage
from models.presence import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.settings import Settings

log = structlog.get_logger(__name__)

_CHUNK = 1_000
_SLACK_S = 1.0


class Holdings:
    """The keys of what somebody on this node follows, and notes about users; see `models.redis_keys` and `presence`.

    Each key has one owner, who takes it in and lets it go.
    """

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._notes: dict[str, Note] = {}  # those that are not ordinary

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
        self._notes.pop(key, None)

    def keys(self) -> list[str]:
        """Return all keys, as they are now."""
        return list(self._keys)

    def note(self, key: str, note: Note) -> Note | None:
        """Note something about a user who is held. Returns what was noted before, where that was something else."""
        before = self._notes.get(key, _ORDINARY)
        if note == before:
            return None
        if note.is_ordinary:
            del self._notes[key]
        else:
            self._notes[key] = note
        return before

    def notes(self) -> dict[str, str]:
        """Return all notes that are not ordinary, as they are written."""
        return {key: note.written() for key, note in self._notes.items()}

    def notes_of(self, keys: Iterable[str]) -> dict[str, str]:
        """Return those of these keys."""
        return {key: note.written() for key in keys if (note := self._notes.get(key)) is not None}


_ORDINARY = Note()


class Announcer:
    """Keeps what Redis says of this node equal to its holdings."""

    def __init__(self, client: redis.asyncio.Redis, node: str, holdings: Holdings, settings: Settings) -> None:
        self._redis = client
        self._node = node
        self._set = redis_keys.holdings(node)
        self._notes = redis_keys.notes(node)
        self._holdings = holdings
        self._interval_s = settings.node_heartbeat_s
        self._ttl_s = settings.node_ttl_s
        self._kept_ms = int((settings.node_ttl_s + redis_keys.NOTICED_WITHIN_S) * 1000)
        self._now = asyncio.Event()
        self._background = Background()
        self._missed = False  # something was not written: the sets may differ, though their sizes be right
        self._writing = asyncio.Lock()
        self._outage = Outage(log, "redis is away; it is not told who is here")
        self._withdrawn = False
        self._had_notes = False  # there may be notes in Redis
        self._announced = False
        self._forgotten_at = float("-inf")  # monotonic; when a heartbeat found that Redis did not know this node
        self.update = Batcher[str, None](self._update, limit=_CHUNK)

    async def _update(self, keys: Sequence[str]) -> list[None]:
        """Write what the holdings say of these keys now. A failure is mended by the next heartbeat."""
        async with self._writing:
            await self._write(keys)
        return [None] * len(keys)

    async def _write(self, keys: Sequence[str]) -> None:
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
                self._write_notes(pipeline, keys)
                await pipeline.execute()
        except (redis.RedisError, OSError, TimeoutError) as error:
            self._missed = True
            self._outage.goes_on(error)
        else:
            self._outage.is_over()

    def _write_notes(self, pipeline: redis.asyncio.client.Pipeline, keys: Sequence[str]) -> None:
        notes = self._holdings.notes_of(keys)
        self._had_notes |= bool(notes)
        if not self._had_notes:
            return
        if ordinary := [key for key in keys if key not in notes]:
            pipeline.hdel(self._notes, *ordinary)
        if notes:
            pipeline.hset(self._notes, mapping=notes)  # type: ignore[arg-type]  # it takes any keys that are text
            pipeline.pexpire(self._notes, self._kept_ms)

    def update_soon(self, key: str) -> None:
        """Write what the holdings say of this key, and wait for nothing."""
        self._background.run(self.update(key))

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
                self._outage.is_over()
            except (redis.RedisError, OSError) as error:
                self._outage.goes_on(error)
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
        pipeline.pexpire(self._notes, self._kept_ms)
        pipeline.scard(self._set)
        pipeline.hlen(self._notes)
        is_new, *_, held, noted = await pipeline.execute()
        if is_new and self._announced:
            self._forgotten_at = time.monotonic()
        self._announced = True
        if self._missed or held != len(self._holdings) or noted != len(self._holdings.notes()):
            async with self._writing:  # else what is written beside it would be lost in it
                await self._rewrite()

    async def _rewrite(self) -> None:
        self._missed = True
        keys, notes = self._holdings.keys(), self._holdings.notes()
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(self._set, self._notes)
        for start in range(0, len(keys), _CHUNK):
            pipeline.sadd(self._set, *keys[start : start + _CHUNK])
        if notes:
            pipeline.hset(self._notes, mapping=notes)  # type: ignore[arg-type]  # it takes any keys that are text
        pipeline.pexpire(self._set, self._kept_ms)
        pipeline.pexpire(self._notes, self._kept_ms)
        await pipeline.execute()
        self._missed = False
        # while they were being written
        changed = set(keys) ^ set(self._holdings.keys())
        changed |= {key for key, _ in notes.items() ^ self._holdings.notes().items()}
        if changed:
            await self._write(list(changed))

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
