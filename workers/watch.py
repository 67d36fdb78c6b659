"""Who looks after a priority, as everyone can see in Redis.

A flag says that a dispatcher is at work, or a message to start one on its way; a list wakes a dispatcher that waits.
Either may vanish at any moment: the flag runs out by itself, and the sweep looks again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis
import structlog

from models import redis_keys

if TYPE_CHECKING:
    from models.states import Priority

log = structlog.get_logger(__name__)

_FLAG_TTL_S = 1.0  # beyond a wait: for how long a dispatcher that was killed still seems to be at work
_REFRESH_S = 0.4


class Watch:
    """A dispatcher's own flag and list. Without Redis it does nothing; the sweep then starts dispatchers."""

    def __init__(self, client: redis.Redis, priority: Priority) -> None:
        self._redis = client
        self._flag = redis_keys.hint_outstanding(priority)
        self._wake = redis_keys.wake(priority)
        self._raised_at = 0.0

    def keep_up(self) -> None:
        """Keep the flag up while there is work."""
        if time.monotonic() - self._raised_at < _REFRESH_S:
            return
        self._raised_at = time.monotonic()
        try:
            self._redis.set(self._flag, 1, px=int(_FLAG_TTL_S * 1000))
        except redis.RedisError as error:
            _say_away(error)

    def woken_within(self, wait_s: float) -> bool:
        """Wait up to `wait_s` to be told that there is more, with the flag up."""
        if wait_s <= 0:
            return False
        self._raised_at = time.monotonic()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(self._flag, 1, px=int((_FLAG_TTL_S + wait_s) * 1000))
        pipeline.blpop([self._wake], timeout=wait_s)
        try:
            return pipeline.execute()[1] is not None
        except redis.RedisError as error:
            _say_away(error)
            return False

    def lower(self) -> None:
        """Take the flag down: whoever commits from now on sends a message."""
        self._raised_at = 0.0
        try:
            self._redis.delete(self._flag)
        except redis.RedisError as error:
            _say_away(error)


def nobody_looks(client: redis.Redis, priority: Priority) -> bool:
    """Return whether the flag was down; it is up now, for the message that the caller sends. Raises `RedisError`."""
    return bool(client.set(redis_keys.hint_outstanding(priority), 1, nx=True, px=int(_FLAG_TTL_S * 1000)))


def _say_away(error: redis.RedisError) -> None:
    log.warning("redis is away; hints will come from the sweep", error=str(error) or type(error).__name__)
