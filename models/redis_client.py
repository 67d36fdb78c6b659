"""How the API and the socket nodes connect to Redis: with short waits, because nobody depends on its answer."""

from __future__ import annotations

import redis.asyncio


def connect(url: str) -> redis.asyncio.Redis:
    """Return a client; it connects when it is first used."""
    return redis.asyncio.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1, health_check_interval=15)
