"""A token bucket: bursts pass, floods do not."""

from __future__ import annotations

import time


class TokenBucket:
    """Holds `burst` tokens, refilled at `rate` a second; starts full."""

    __slots__ = ("_burst", "_rate", "_refilled_at", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._refilled_at = time.monotonic()

    def take(self) -> float:
        """Take a token and return 0; where there is none, return the seconds until there is."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._rate)
        self._refilled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0
