"""The journey, with real processes: API, Celery workers, beat, two socket nodes, Postgres, Valkey, and real clients.

The tests run in order on one stack: each leaves it healthy, and the last ones leave it killed and recovered.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import psycopg
import pytest
import redis
import socketio

from tests.conftest import notification
from tests.socket_server.conftest import Device, eventually
from tests.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.stack import Stack

PATIENCE_S = 40
PROCESSES = ("postgres", "redis", "api", "worker", "worker-critical", "beat", "socket", "socket-2", "flower")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("journey") / "data") as running:
        yield running


class Backend:
    """Calls the API and tries again where it got no answer, with a key that makes it safe to."""

    def __init__(self, stack: Stack) -> None:
        dev = stack.dev
        self._http = httpx.AsyncClient(
            base_url=dev["api_url"], headers={"authorization": f"Bearer {dev['api_key']}"}, timeout=10
        )
        self._sent = 0

    async def send(self, user: str, how_many: int = 1, **changes: Any) -> None:
        for _ in range(how_many):
            self._sent += 1
            body = notification(user, data={"nth": self._sent}, **changes)
            await self._until_accepted(body, f"{user}-{self._sent}")

    async def _until_accepted(self, body: dict[str, Any], key: str) -> None:
        response = await self._ask("POST", "/v1/notifications", json=body, headers={"idempotency-key": key})
        assert response.status_code == 202, response.text

    async def token(self, user: str) -> str:
        response = await self._ask("POST", "/v1/tokens", json={"user": user})
        return str(response.json()["token"])

    async def call(self, method: str, path: str, user: str, **arguments: Any) -> Any:
        headers = {"authorization": f"Bearer {await self.token(user)}"}
        response = await self._ask(method, path, headers=headers, **arguments)
        return response.json() if response.content else None

    async def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Ask until there is an answer; 503 says that nothing was done, and to ask again."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    response = await self._http.request(method, path, **arguments)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                    continue
                if response.status_code == 503:
                    await asyncio.sleep(0.1)
                    continue
                assert response.is_success, response.text
                return response

    async def close(self) -> None:
        await self._http.aclose()


@pytest.fixture
async def backend(stack: Stack) -> AsyncIterator[Backend]:
    calling = Backend(stack)
    yield calling
    await calling.close()


class Client:
    """A device that comes back by itself, from where it was."""

    def __init__(self, stack: Stack, backend: Backend, user: str, node: int) -> None:
        self._stack, self._backend, self._user, self._node = stack, backend, user, node
        self.device = Device()
        self._wanted = True
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(PATIENCE_S):
            # A node that was killed before may still be starting.
            while not await self._try_to_connect(None):  # noqa: ASYNC110  # nobody signals that a port is open
                await asyncio.sleep(0.1)
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._wanted = False
        if self._keeper:
            self._keeper.cancel()
        await self.device.client.disconnect()

    async def _try_to_connect(self, since: int | None) -> bool:
        try:
            await self._connect(since)
        except (socketio.exceptions.SocketIOError, TimeoutError, httpx.HTTPError):
            return False
        return True

    async def _connect(self, since: int | None) -> None:
        fresh = Device()
        fresh.replica = self.device.replica
        auth = {"token": await self._backend.token(self._user), **({} if since is None else {"since": since})}
        urls = self._stack.dev["socket_urls"]
        try:
            await fresh.connect(urls[self._node % len(urls)], auth=auth)
        except BaseException:
            await fresh.client.disconnect()
            raise
        self.device = fresh

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            if not self.device.client.connected:
                await self._try_to_connect(self.device.replica.seq)

    async def reach(self, seq: int) -> None:
        await eventually(lambda: self.device.replica.seq >= seq, PATIENCE_S)

    @property
    def seen(self) -> list[int]:
        items = self.device.replica.items
        return [items[seq]["data"]["nth"] for seq in sorted(items)]


async def settled(stack: Stack) -> None:
    """Wait until nothing is left to dispatch, with Postgres back where it was killed."""

    def empty() -> bool:
        try:
            with psycopg.connect(stack.dev["database_url"], connect_timeout=2) as connection:
                row = connection.execute("SELECT count(*) FROM outbox").fetchone()
                return row == (0,)
        except psycopg.OperationalError:
            return False

    await eventually(empty, PATIENCE_S)


async def truth(backend: Backend, user: str) -> list[dict[str, Any]]:
    page = await backend.call("GET", "/v1/inbox?status=all&limit=100", user)
    return list(page["items"])


async def test_two_devices_on_two_nodes_a_pause_and_a_return(stack: Stack, backend: Backend) -> None:
    urls = stack.dev["socket_urls"]
    assert len(urls) == 2
    async with Client(stack, backend, "ada", 0) as phone, Client(stack, backend, "ada", 1) as laptop:
        await backend.send("ada", 2, priority="critical")
        await backend.send("ada", 1)
        await phone.reach(3)
        await laptop.reach(3)
        assert phone.device.replica.items == laptop.device.replica.items

        answer = await phone.device.call("act", {"action": "read", "seqs": [1]})
        assert answer["ok"]
        await laptop.reach(4)
        assert laptop.device.replica.items[1]["read_at"]
        await backend.call("PATCH", "/v1/inbox/2", "ada", json={"archived": True})
        await phone.reach(5)
        await laptop.reach(5)

    gone = laptop.device.replica.seq
    await backend.send("ada", 5)
    await settled(stack)
    back = Device()
    back.replica = laptop.device.replica
    await back.connect(urls[0], auth={"token": await backend.token("ada"), "since": gone})
    await back.reach(gone + 5)
    received = [entry["seq"] for frame in back.frames for entry in frame["entries"]]
    assert received == list(range(gone + 1, gone + 6)), "exactly what was missed, once, in order"
    assert back.replica.newest_first() == await truth(backend, "ada")
    await back.client.disconnect()


def test_every_process_tells_its_metrics(stack: Stack) -> None:
    dev = stack.dev
    assert set(PROCESSES) <= set(dev["pids"])
    texts = {name: httpx.get(url).text for name, url in dev["metrics"].items()}
    together = "\n".join(texts.values())
    for name in (
        "bellhop_notifications_accepted_total",
        "bellhop_notifications_dispatched_total",
        "bellhop_pushed_total",
        "bellhop_push_seconds_bucket",
        "bellhop_outbox_depth",
        "bellhop_outbox_age_seconds",
        "bellhop_sockets",
        "bellhop_frames_total",
    ):
        assert name in together, name
    assert httpx.get(f"{dev['flower_url']}/metrics").status_code == 200


async def test_a_worker_says_that_everything_accepted_is_where_it_must_be(stack: Stack, backend: Backend) -> None:
    async with httpx.AsyncClient() as client:

        async def says() -> bool:
            text = (await client.get(stack.dev["metrics"]["worker"])).text
            return "bellhop_unaccounted_notifications 0.0" in text and 'looked_at_total{state="dispatched"}' in text

        await eventually(says, PATIENCE_S)


async def test_flushall_in_the_middle_loses_nothing(stack: Stack, backend: Backend) -> None:
    async with Client(stack, backend, "bob", 0) as one, Client(stack, backend, "bob", 1) as two:
        await backend.send("bob", 5)
        with redis.Redis.from_url(stack.dev["redis_url"]) as client:
            client.flushall()
        await backend.send("bob", 5)
        await one.reach(10)
        await two.reach(10)
        assert one.seen == two.seen == sorted(one.seen)


async def test_cut_subscriptions_stop_nobody(stack: Stack, backend: Backend) -> None:
    async with Client(stack, backend, "cut", 0) as client:
        for nth in range(1, 4):
            with redis.Redis.from_url(stack.dev["redis_url"]) as redis_client:
                redis_client.client_kill_filter(_type="pubsub")
            await asyncio.sleep(1)  # longer than a dispatcher lingers: the next one is started by a message
            await backend.send("cut", 1, priority="critical")
            await backend.send("cut", 1, priority="normal")
            await client.reach(2 * nth)


@pytest.mark.parametrize("victim", ["worker", "socket", "worker-critical", "beat", "api", "redis", "postgres"])
async def test_kill_nine_in_the_middle_loses_nothing(victim: str, stack: Stack, backend: Backend) -> None:
    user = f"kill-{victim}"
    priority = "critical" if victim == "worker-critical" else "normal"
    async with Client(stack, backend, user, 0) as one, Client(stack, backend, user, 1) as two:
        sending = asyncio.create_task(backend.send(user, 60, priority=priority))
        await eventually(lambda: one.device.replica.seq >= 10, PATIENCE_S)
        pid = stack.kill(victim)
        await sending
        await asyncio.to_thread(stack.wait_for_another, victim, pid)
        await one.reach(60)
        await two.reach(60)
        assert one.seen == two.seen == sorted(one.seen)
        assert len(set(one.seen)) == 60
        await settled(stack)
        assert one.device.replica.newest_first() == await truth(backend, user)


async def test_a_critical_notification_does_not_wait_behind_the_low(stack: Stack, backend: Backend) -> None:
    async with Client(stack, backend, "vip", 0) as client:
        with psycopg.connect(stack.dev["database_url"], autocommit=True) as connection:
            connection.execute("""
                WITH n AS (
                    INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience)
                    SELECT gen_random_uuid(), 'default', 'blog.post.liked', 'blog', 3, 't', '', '{}',
                           jsonb_build_object('user', 'low-' || i % 500)
                    FROM generate_series(1, 30000) i RETURNING id)
                INSERT INTO outbox (notification_id, priority) SELECT id, 3 FROM n""")
            began = time.monotonic()
            await backend.send("vip", priority="critical")
            await client.reach(1)
            took = time.monotonic() - began
            left = connection.execute("SELECT count(*) FROM outbox WHERE priority = 3").fetchone()
            assert left is not None
            assert left[0] > 0, f"the low ones were through before the critical one ({took:.2f} s)"
    await settled(stack)


def test_stopping_leaves_no_orphan(tmp_path: Any) -> None:
    with running_stack(tmp_path / "data", socket_nodes=1) as running:
        pids = list(running.dev["pids"].values())
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert running.process.returncode == 0
    assert not (tmp_path / "data" / "dev.json").exists()
