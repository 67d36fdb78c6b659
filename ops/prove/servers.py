"""What is done to Postgres and Redis from inside: forgetting, refusing, being full, and the undoing of it.

Invariant: each is asked until it has answered, with a new connection each time: the server may be down just now.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import redis.asyncio
from psycopg import sql
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ops.prove.alarm import ViolationError
from ops.prove.truth import connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.prove.target import Target

_PATIENCE_S = 60.0
_PAUSE_S = 0.2
_FULL_BYTES = 1  # less than an empty Redis holds: every command that needs memory is refused
_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %(name)s"


async def flush_redis(target: Target) -> None:
    """Delete everything."""
    await _redis(target, lambda client: client.flushall())


async def fill_redis(target: Target) -> None:
    """Let it have no memory for anything new."""
    await _redis(target, lambda client: client.config_set("maxmemory", _FULL_BYTES))


async def empty_redis(target: Target) -> None:
    """Let it have as much memory as there is."""
    await _redis(target, lambda client: client.config_set("maxmemory", 0))


async def _redis(target: Target, work: Callable[[redis.asyncio.Redis], Awaitable[object]]) -> None:
    async def once() -> None:
        client = redis.asyncio.Redis.from_url(
            target.redis_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
        )
        async with client:
            await work(client)

    await _until_done(once, (redis.RedisError, OSError), "Redis")


async def refuse_connections(target: Target) -> None:
    """Let Postgres refuse new connections to Bellhop's database, and end those that are."""
    await _postgres(target, allow=False)


async def allow_connections(target: Target) -> None:
    """Undo `refuse_connections`."""
    await _postgres(target, allow=True)


async def _postgres(target: Target, *, allow: bool) -> None:
    name = urlsplit(target.database_url).path.lstrip("/")
    allowed = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allow))

    async def once() -> None:
        async with await connect(target.maintenance_url) as database:
            await database.execute(allowed)
            if not allow:
                await database.execute(_TERMINATE, {"name": name})

    await _until_done(once, (psycopg.OperationalError,), "Postgres")


async def _until_done(once: Callable[[], Awaitable[None]], away: tuple[type[Exception], ...], name: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await once()
        except away as error:
            if time.monotonic() > deadline:
                msg = f"{name} could not be asked for {_PATIENCE_S:.0f} s: {error}"
                raise ViolationError(msg) from error
        await asyncio.sleep(_PAUSE_S)
