"""Connections to Postgres, and the one owner of transactions.

Connections are in autocommit: a single statement is a transaction of its own. What needs several statements says
`async with database.transaction()`; nothing else in the project begins or commits.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import orjson
import psycopg
import structlog
from psycopg.adapt import AdaptersMap
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from models.background import end
from models.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

log = structlog.get_logger(__name__)

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
AsyncConnection = psycopg.AsyncConnection[Row]

_OPTIONS = " ".join(
    f"-c {option}"
    for option in (
        "TimeZone=UTC",
        "lock_timeout=5s",
        "statement_timeout=30s",
        "idle_in_transaction_session_timeout=10s",
        # A connection keeps the plans that it made while tables were small, and an outbox grows from nothing to a
        # million rows within a minute. Every hot statement has an index in the order that it wants: docs/plans.md.
        "enable_seqscan=off",
        "enable_bitmapscan=off",
        "jit=off",  # up to Postgres 17 what is switched off counts as a cost, and past a cost plans are compiled
    )
)
_FOR_WHOLE_TABLES = (
    "SET LOCAL enable_seqscan = on",
    "SET LOCAL enable_bitmapscan = on",
    "SET LOCAL statement_timeout = 0",
)
_POOL_TIMEOUT_S = 3.0
_DEADLINE_S = 15.0  # for one statement or transaction: a server that hangs is as good as away
_RETRY_S = 0.5  # how soon after its return Postgres is used again

# Postgres is there, but somebody holds what is needed, or took too long.
BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)

# The server is away, going away, or gave up waiting: nothing was changed, trying again may help.
TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, TooManyRequests)


class _Adaptation:
    """How values are read: as psycopg does, and JSON by orjson, seven times as fast."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.connection = None
        set_json_loads(orjson.loads, self)


_ADAPTATION = _Adaptation()


def connect_arguments() -> dict[str, Any]:
    """Return what every connection is opened with."""
    return {
        "context": _ADAPTATION,
        "autocommit": True,
        "row_factory": dict_row,
        "options": _OPTIONS,
        "connect_timeout": 3,
        "keepalives_idle": 15,
        "tcp_user_timeout": 10_000,
        "application_name": "bellhop",
    }


def connect(database_url: str) -> Connection:
    """Open one synchronous connection. Raises `psycopg.OperationalError`."""
    return cast("Connection", psycopg.connect(database_url, **connect_arguments()))


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block in one transaction: committed at its end, rolled back by an exception."""
    with connection.transaction():
        yield connection


@contextmanager
def snapshot(connection: Connection) -> Iterator[Connection]:
    """Run the block on one view of everything, as it was at its first statement; nothing can be written in it.

    It reads whole tables, so for it alone Postgres may read them in any way, and take its time.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        for setting in _FOR_WHOLE_TABLES:
            connection.execute(setting)
        yield connection


@contextmanager
def pipelined_transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block in one transaction whose statements travel together until one's result is read.

    What the last statements return can be read after the block; what is wrong with them is raised at its end.
    """
    try:
        with connection.pipeline(), connection.transaction():
            yield connection
    except psycopg.Error:
        if not connection.closed:
            connection.rollback()  # the server skips a COMMIT that travelled behind a statement that failed
        raise


class Database:
    """A pool of connections with short waits. Raises `UnavailableError` where Postgres cannot be reached."""

    def __init__(self, database_url: str, *, size: int) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(
            database_url,
            kwargs=connect_arguments(),
            connection_class=cast("type[AsyncConnection]", psycopg.AsyncConnection),
            min_size=min(2, size),
            max_size=size,
            timeout=_POOL_TIMEOUT_S,
            reconnect_timeout=_RETRY_S,  # past it the pool would back off; `_until_postgres_answers` does not
            open=False,
            name="bellhop",
        )
        self._context = contextvars.copy_context()  # what goes on in the background belongs to no request
        self._checking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start filling the pool. Does not wait: a process may start before Postgres does."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        if self._checking is not None:
            await end([self._checking])
        await self._pool.close(timeout=2)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Run the block in one transaction: committed at its end, rolled back by an exception."""
        with self._unavailable():
            async with asyncio.timeout(_DEADLINE_S), self._pool.connection() as connection, connection.transaction():
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Run the block on one view of everything, as it was at its first statement; nothing can be written in it."""
        async with self.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    async def rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement, which is a transaction of its own, and return its rows as dicts."""
        with self._unavailable():
            async with asyncio.timeout(_DEADLINE_S), self._pool.connection() as connection:
                cursor = await connection.execute(sql, parameters)
                return await cursor.fetchall() if cursor.description else []

    async def check(self) -> None:
        """Ask Postgres for an answer. Raises `UnavailableError`."""
        await self.rows("SELECT 1", {})

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except (*TRANSIENT, TimeoutError) as error:
            # Where one connection broke, its neighbours most likely did too: one caller pays for it, not each of them.
            if self._checking is None or self._checking.done():
                self._checking = asyncio.create_task(
                    self._until_postgres_answers(), name="replace broken connections", context=self._context
                )
            raise UnavailableError from error

    async def _until_postgres_answers(self) -> None:
        while True:
            try:
                await self._pool.check()
                async with self._pool.connection(timeout=_RETRY_S):
                    return
            except (*TRANSIENT, TimeoutError) as error:
                log.info("postgres is still away", error=str(error))
                await asyncio.sleep(_RETRY_S)
