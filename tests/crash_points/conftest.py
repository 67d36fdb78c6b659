"""One engine for all crash points, backends that call it, and devices that come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
import redis
from pydantic import SecretStr

from models.retention import KeptItems
from models.settings import Settings
from tests.conftest import SECRET, as_user, notification
from tests.crash_points.engine import PATIENCE_S, Engine, Process
from tests.crash_points.truth import Truth
from tests.socket_server.conftest import Device, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ops.embedded import Servers

_DATABASE = "crash_points"
RETAINED, KEPT = "retained", 20  # the domain of which only so many items are kept: more than others are sent


@pytest.fixture(scope="package")
async def engine(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    base, _, template = servers.database_url.rpartition("/")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE {_DATABASE} TEMPLATE "{template}"')
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
        directory = tmp_path_factory.mktemp("crash_points")
        settings = Settings(
            database_url=f"{base}/{_DATABASE}",
            redis_url=servers.redis_url,
            secret_key=SecretStr(SECRET),
            data_dir=directory,
            api_port=0,
            socket_port=0,
            flower_port=0,
            socket_nodes=2,
            head_check_interval_s=0.5,
            dispatch_batch=50,  # and so a broadcast reaches 500 at once
            trim_interval_s=1,
            retention_round_s=0.2,
            inbox_retention={"*": KeptItems(), f"{RETAINED}.*": KeptItems(items=KEPT)},
        )
        running = Engine(settings, directory)
        try:
            await running.start()
            yield running
        finally:
            running.stop()
        admin.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")


@pytest.fixture(autouse=True)
async def _whole(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    if "engine" in request.fixturenames:
        running: Engine = request.getfixturevalue("engine")
        await running.heal()


@pytest.fixture(scope="module")
async def every_death_is_noticed(engine: Engine) -> AsyncIterator[None]:
    """See that a worker's pool is whole in the end, and that Celery said who was killed."""
    before = len(engine.worker.children)
    yield
    await engine.worker.replaced_its_victims(before)


class Backend:
    """Calls the API once and does not try again."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._sent = 0

    async def send(self, user: str, key: str, **changes: Any) -> httpx.Response:
        body = notification(user, **changes)
        return await self._client.post("/v1/notifications", json=body, headers={"idempotency-key": key})

    async def say(self, room: str, key: str, nth: int) -> httpx.Response:
        """Publish an event into a room."""
        body = {"event": "order.updated", "data": {"nth": nth}}
        return await self._client.post(f"/v1/rooms/{room}/events", json=body, headers={"idempotency-key": key})

    async def send_together(self, *users: str, each: int) -> None:
        """Commit notifications to these users in one statement, so that one batch can claim them all."""
        items = [notification(user, data={"nth": nth}) for nth in range(each) for user in users]
        response = await self._client.post("/v1/notifications/bulk", json={"notifications": items})
        assert response.json()["accepted"] == len(items), response.text

    async def call(self, method: str, path: str, **body: Any) -> httpx.Response:
        """Call anything, once."""
        return await self._client.request(method, path, json=body or None)

    async def done(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Call what must succeed."""
        response = await self.call(method, path, **body)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def fresh_read(self, user: str) -> list[dict[str, Any]]:
        """Return what a device that knows nothing gets."""
        items: list[dict[str, Any]] = []
        before = ""
        while True:
            url = f"/v1/inbox?status=all&limit=100{before}"
            page = (await self._client.get(url, headers=as_user(user))).json()
            items += page["items"]
            if page["next_before"] is None:
                return items
            before = f"&before={page['next_before']}"


@pytest.fixture
async def backend(engine: Engine) -> AsyncIterator[Backend]:
    limits = httpx.Limits(max_keepalive_connections=0)  # a restarted API must not be called over its predecessor's
    async with httpx.AsyncClient(
        base_url=engine.api.url, headers=engine.headers, timeout=20, limits=limits, trust_env=False
    ) as client:
        yield Backend(client)


@pytest.fixture
def truth(engine: Engine) -> Truth:
    return Truth(engine.settings.database_url)


class Client:
    """A user's device: what it received on all its connections, one after the other."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.device = Device()
        self._frames: list[dict[str, Any]] = []

    async def connect(self, node: Process, since: int | None = None) -> Client:
        await self.device.connect(node.url, self.user, since=since, rooms=["*"])
        return self

    async def come_back(self, node: Process) -> None:
        """Connect anew, from where it was."""
        await self.close()
        self._frames += self.device.frames
        held, self.device = self.device.replica, Device()
        self.device.replica = held
        await self.connect(node, since=held.seq)
        assert not self.device.ready["reset"]

    async def reach(self, seq: int) -> None:
        await eventually(lambda: self.device.replica.seq >= seq, PATIENCE_S)

    @property
    def numbers(self) -> list[int]:
        """Every number that frames accounted for, as they came."""
        return [number for frame in self._all for number in range(frame["from"], frame["to"] + 1)]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every entry, as they came."""
        return [entry for frame in self._all for entry in frame["entries"]]

    @property
    def _all(self) -> list[dict[str, Any]]:
        return [*self._frames, *self.device.frames]

    async def holds(self, backend: Backend, last: int) -> None:
        """Wait until it has everything up to `last`, and see that it got each number once and shows what is true."""
        await self.reach(last)
        assert self.numbers == list(range(self.numbers[0], last + 1))
        assert len({entry["seq"] for entry in self.entries}) == len(self.entries)
        assert self.device.replica.newest_first() == await backend.fresh_read(self.user)

    async def close(self) -> None:
        await self.device.client.disconnect()


@pytest.fixture
async def connected() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Connects a user's device to a node."""
    made: list[Client] = []

    async def connect(user: str, node: Process, since: int | None = None) -> Client:
        made.append(Client(user))
        return await made[-1].connect(node, since)

    yield connect
    for client in made:
        await client.close()
