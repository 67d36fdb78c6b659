"""Real Postgres and Valkey for every test: started once per run, with a fresh copy of a migrated database per test.

Everything temporary lies in memory where the machine has room there: on a disk, the three hundred files of each copy
take longer than most tests.
"""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
import redis

from api.main import create_app
from models.database import Connection, connect
from models.frames import dumps
from models.keys import create_key
from models.migrate import upgrade
from models.queries import receipts as receipts_sql
from models.settings import Settings
from models.telemetry import configure_logging
from models.tokens import mint_token
from ops.embedded import embedded_servers
from workers.resources import Resources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ops.embedded import Servers

SECRET = "a secret that is long enough for HS256"
_MEMORY = Path("/dev/shm")  # noqa: S108  # where Linux keeps files in memory; pytest makes a private directory in it
_ROOM = 2 * 2**30  # a process of several needs a quarter of a gigabyte
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.import_plugin("tests.spread")


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging(Settings(log_level="DEBUG"), "test")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    # fsync off: no test here cuts the power, and the journey has a stack of its own.
    with embedded_servers(tmp_path_factory.mktemp("servers"), postgres_options=("fsync=off",)) as running:
        upgrade(running.database_url)
        yield running


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A database of the test's own, cloned from the migrated one."""
    base, _, template = servers.database_url.rpartition("/")
    name = f"test_{next(_numbers)}"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield f"{base}/{name}"
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def redis_url(servers: Servers) -> str:
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        secret_key=SECRET,  # type: ignore[arg-type]
        data_dir=tmp_path,
        socket_port=0,
        head_check_interval_s=0.2,
        ack_flush_interval_s=0.05,
        dispatch_budget_s=60,  # on a busy machine, too, one dispatcher is enough
        dispatch_linger_s=0.01,
        presence_grace_s=0.3,
        token_grace_s=0.3,
    )


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as opened:
        yield opened


@pytest.fixture
def worker(settings: Settings) -> Iterator[Resources]:
    resources = Resources.build(settings)
    yield resources
    resources.close()


@pytest.fixture
def api_key(database_url: str) -> str:
    return create_key(database_url, tenant="default", scopes=["admin"], name="test")[1]


def waits_for_a_lock(connection: Connection) -> bool:
    """Whether somebody in the test's database does."""
    asked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(connection.execute(asked).fetchall())


def nobody() -> None:
    """The successor of a dispatcher that has time enough."""
    pytest.fail("the dispatcher handed over")


def token(
    user: str = "u_1",
    *,
    tenant: str = "default",
    ttl_s: int = 600,
    secret: str = SECRET,
    rooms: Sequence[str] = (),
    watch: Sequence[str] = (),
    locale: str | None = None,
) -> str:
    return mint_token(secret, tenant=tenant, user=user, ttl_s=ttl_s, rooms=rooms, watch=watch, locale=locale)[0]


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The real application, called without a network."""
    app = create_app(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://api"))


@pytest.fixture
async def anonymous(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_api(settings) as client:
        yield client


@pytest.fixture
async def backend(anonymous: httpx.AsyncClient, api_key: str) -> httpx.AsyncClient:
    """A client that calls with an admin key."""
    anonymous.headers["authorization"] = f"Bearer {api_key}"
    return anonymous


def as_user(user: str = "u_1") -> dict[str, str]:
    """Headers that call as a user, whatever the client calls as."""
    return {"authorization": f"Bearer {token(user)}"}


def ack(connection: Connection, **seqs: int) -> None:
    """Let a device of each of these users hold everything up to a number."""
    acks = [{"tenant": "default", "user_id": user, "seq": seq} for user, seq in seqs.items()]
    connection.execute(receipts_sql.RECORD_ACKS_IF_AHEAD, {"acks": dumps(acks).decode()})


def in_a_while(days: int = 300) -> str:
    """A time to schedule something for."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def quiet_now() -> dict[str, str]:
    """Quiet hours that have begun and are not over for an hour, whenever the test runs."""
    now = datetime.now(UTC)
    begun, over = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    return {"start": begun, "end": over, "time_zone": "Etc/UTC"}


def notification(user: str = "u_1", **changes: Any) -> dict[str, Any]:
    return {"to": {"user": user}, "type": "shop.order.shipped", "title": "Order 42 is on its way", **changes}
