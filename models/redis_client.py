"""How the API and the socket nodes connect to Redis: with short waits, because nobody depends on its answer."""

from __future__ import annotations

import redis.asyncio

_MOST_CONNECTIONS = 16  # of a process; who finds all of them busy waits for one
_WAIT_S = 1


def connect(url: str) -> redis.asyncio.Redis:
    """Return a client; it connects when it is first used."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=_WAIT_S,
        socket_timeout=2,
        socket_connect_timeout=1,
        health_check_interval=15,
    )
    return redis.asyncio.Redis.from_pool(pool)
