"""Real socket nodes on loopback in the test's own loop, and real Socket.IO clients."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
import socketio

from api.room_events import Draft
from models.contracts import RoomEventIn
from models.states import Priority
from ops.prove.replica import Replica
from socket_server.main import Application, create_app
from socket_server.serving import server_of
from tests.conftest import nobody, running_api, token
from tests.models.test_log import ingest
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from api.room_events import RoomEvents
    from models.database import Connection
    from models.settings import Settings
    from socket_server.serving import DrainingServer
    from workers.resources import Resources

    Make = Callable[[], "Device"]
    Arrive = Callable[..., Awaitable[None]]
    Publish = Callable[..., Awaitable[None]]

PATIENCE_S = 10


class Running:
    """A socket node that serves."""

    def __init__(self, application: Application, url: str, server: DrainingServer) -> None:
        self.application = application
        self.node = application.node
        self.url = url
        self.server = server


@asynccontextmanager
async def running_node(settings: Settings) -> AsyncIterator[Running]:
    application = create_app(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    server = server_of(application, settings)
    server.capture_signals = _no_signals  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve([listening]))
    running = Running(application, f"http://127.0.0.1:{listening.getsockname()[1]}", server)
    await eventually(lambda: running.node.failing is None)
    await eventually(lambda: _announced(application))
    yield running
    await running.node.drain()
    server.should_exit = True
    await serving


def _no_signals() -> AsyncExitStack:
    from contextlib import nullcontext  # noqa: PLC0415

    return nullcontext()  # type: ignore[return-value]


async def _announced(application: Application) -> bool:
    return bool(await application.node._announcer._redis.zscore("bellhop:nodes", application.node._announcer._node))


async def eventually(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition` holds; fail when it does not within `patience_s`."""
    async with asyncio.timeout(patience_s):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.01)


class Device:
    """A Socket.IO client that keeps what it receives."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self.ready: dict[str, Any] = {}
        self.frames: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.presence: dict[str, list[dict[str, Any]]] = {}
        self.expiring: list[dict[str, Any]] = []
        self.drain: dict[str, Any] = {}
        self.rooms: dict[str, list[dict[str, Any]]] = {}
        self.room_seqs: dict[str, int] = {}
        self.order: list[str] = []
        self.refusal: Any = None
        self.replica = Replica()
        self.client.on("*", self._on_event)
        self.client.on("connect_error", self._on_refusal)

    async def _on_event(self, name: str, body: dict[str, Any]) -> None:
        self.order.append(name)
        match name:
            case "ready":
                self.ready = body
                self.replica.seq = body["seq"]
            case "inbox":
                self.frames.append(body)
                self.replica.apply(body)
            case "room":
                assert body["from"] == self.room_seqs[body["room"]] + 1, "a gap, or what was sent before"
                assert [entry["seq"] for entry in body["entries"]] == list(range(body["from"], body["to"] + 1))
                self.room_seqs[body["room"]] = body["to"]
                self.rooms.setdefault(body["room"], []).append(body)
            case "presence":
                self.presence.setdefault(body["user"], []).append(body)
            case "drain":
                self.drain = body
            case "expiring":
                self.expiring.append(body)
            case "error":
                self.errors.append(body)

    async def _on_refusal(self, body: Any) -> None:
        self.refusal = body

    async def connect(
        self,
        url: str,
        user: str = "u_1",
        *,
        since: Any = None,
        auth: Any = None,
        transports: list[str] | None = None,
        rooms: Sequence[str] = (),
        watch: Sequence[str] = (),
    ) -> Device:
        position = {} if since is None else {"since": since}
        given = auth if auth is not None else {"token": token(user, rooms=rooms, watch=watch), **position}
        await self.client.connect(url, auth=given, transports=transports or ["websocket"], wait_timeout=5)
        await eventually(lambda: self.ready)
        return self

    async def reach(self, seq: int) -> Device:
        await eventually(lambda: self.replica.seq >= seq)
        assert self.replica.seq == seq
        return self

    async def join(self, room: str, **since: int) -> dict[str, Any]:
        """Join a room, and go on checking its frames from the number that the answer names."""
        answer = await self.call("join", {"room": room, **since})
        if answer["ok"]:
            self.room_seqs[room] = answer["seq"]
        return answer

    async def reach_in(self, room: str, seq: int) -> Device:
        await eventually(lambda: self.room_seqs[room] >= seq)
        assert self.room_seqs[room] == seq
        return self

    def statuses(self, user: str) -> list[str]:
        """What it was told of somebody's presence, in the order in which it came."""
        return [frame["status"] for frame in self.presence.get(user, [])]

    def heard(self, room: str) -> list[Any]:
        """What the events of a room were about, in the order in which they came."""
        return [entry["data"]["nth"] for frame in self.rooms.get(room, []) for entry in frame["entries"]]

    async def call(self, name: str, *body: Any) -> dict[str, Any]:
        return await self.client.call(name, body if len(body) > 1 else body[0] if body else None, timeout=5)  # type: ignore[no-any-return]

    def titles(self) -> list[Any]:
        return [self.replica.items[seq]["data"]["nth"] for seq in sorted(self.replica.items)]


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[Running]:
    async with running_node(settings) as running:
        yield running


@pytest.fixture
async def device() -> AsyncIterator[Callable[[], Device]]:
    made: list[Device] = []

    def make() -> Device:
        made.append(Device())
        return made[-1]

    yield make
    for one in made:
        await one.client.disconnect()


@pytest.fixture
async def redis_client(settings: Settings) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(settings.redis_url) as connected:
        yield connected


@pytest.fixture
def arrive(connection: Connection, worker: Resources) -> Callable[..., Awaitable[None]]:
    """Write notifications and dispatch them as a worker does, pushes included."""

    async def write(user: str = "u_1", how_many: int = 1, body: str = "") -> None:
        ingest(connection, user, how_many, body=body)
        await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)

    return write


@pytest.fixture
async def publish(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Publish into a room as an API process does: committed, then pushed."""
    async with running_api(settings) as api:
        events: RoomEvents = api._transport.app.state.resources.room_events  # type: ignore[attr-defined]

        async def write(room: str, numbers: Iterable[int] = (0,)) -> None:
            said = [RoomEventIn(event="order.updated", data={"nth": nth}) for nth in numbers]
            await asyncio.gather(*(events.publish(Draft.of("default", room, each, None)) for each in said))

        yield write
