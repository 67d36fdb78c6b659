"""Who fills or closes digests dies: a worker in the middle of a broadcast or of closing, the API while it closes some.

After each: whatever gathered is in one digest of each of its recipients, in order, and each digest arrived once; what
was cancelled while it waited is in none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.crash_points.engine import PATIENCE_S
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash_points.conftest import Backend, Client
    from tests.crash_points.engine import Engine
    from tests.crash_points.truth import Truth

pytestmark = pytest.mark.usefixtures("every_death_is_noticed")

EVERY_HOUR = {"templates": {"en": {"title": "{{ nth }} of them"}}, "digest": {"every": "1h"}}
READERS = [f"reader-{nth:03}" for nth in range(600)]  # two batches of a broadcast
GATHERED = """
SELECT d.user_id, array_agg(e.notification_id::text ORDER BY e.position) AS ids, count(DISTINCT d.id) AS digests
FROM digest d JOIN digest_entry e ON e.digest_id = d.id WHERE d.type = %s GROUP BY 1
"""
OPEN = "SELECT 1 FROM digest WHERE type = %s AND closed_at IS NULL LIMIT 1"
MAKE_DUE = "UPDATE digest SET closes_at = now() WHERE type = %s AND closed_at IS NULL"


class Scene:
    """Three broadcasts and two to Ada alone, of a type with a digest, and of each kind one that is cancelled."""

    def __init__(self, type_: str, engine: Engine, backend: Backend, truth: Truth) -> None:
        self.type = type_
        self._engine = engine
        self._backend = backend
        self._truth = truth
        self.for_all: list[str] = []
        self.for_ada: list[str] = []
        self.devices: list[Client] = []

    async def begin(self, connected: Callable[..., Awaitable[Client]]) -> None:
        topic = f"crash:{self.type}"
        self._topic = {"topic": topic}
        await self._backend.done("PUT", f"/v1/types/{self.type}", **EVERY_HOUR)
        await self._backend.done("PUT", f"/v1/topics/{topic}/subscribers", users=READERS)
        first, second = self._engine.nodes
        users = [(READERS[0], first), (READERS[0], second), (READERS[-1], second)]
        self.devices = [await connected(user, node, since=0) for user, node in users]
        self._heads = [self._truth.head(device.user) for device in self.devices]

    async def say(self) -> None:
        """Send all, wait until nothing is left to dispatch, and cancel two."""
        for nth, to in enumerate((self._topic, {"user": READERS[0]}, self._topic, {"user": READERS[0]}, self._topic)):
            body = {"to": to, "type": self.type, "data": {"nth": nth}}
            said = await self._backend.done("POST", "/v1/notifications", **body)
            (self.for_all if to is self._topic else self.for_ada).append(said["id"])

    async def cancel(self) -> None:
        await self._truth.adds_up()
        for ids, users in ((self.for_all, len(READERS)), (self.for_ada, 1)):
            told = await self._backend.done("DELETE", f"/v1/notifications/{ids.pop(0)}")
            assert (told["cancelled"], told["recalled"], told["already_read"]) == (users, 0, 0)

    async def end(self) -> None:
        """Let all digests arrive that have not, and look at everything."""
        self._truth.run(MAKE_DUE, self.type)
        await eventually(lambda: not self._truth.rows(OPEN, self.type), PATIENCE_S)
        await self._truth.adds_up()
        gathered = {row["user_id"]: row for row in self._truth.rows(GATHERED, self.type)}
        assert sorted(gathered) == READERS
        first, last = self.for_all
        for user, row in gathered.items():
            wanted = [first, *self.for_ada, last] if user == READERS[0] else [first, last]
            assert (row["ids"], row["digests"]) == (wanted, 1)
        for device, head in zip(self.devices, self._heads, strict=True):
            await device.holds(self._backend, head + 1)
            item: dict[str, Any] = device.device.replica.items[head + 1]
            assert [each["id"] for each in item["data"]["items"]] == gathered[device.user]["ids"]


@pytest.fixture
def scene(request: pytest.FixtureRequest, engine: Engine, backend: Backend, truth: Truth) -> Scene:
    point = request.getfixturevalue("point").replace(" ", "_")
    return Scene(f"crash.digest.{point}", engine, backend, truth)


@pytest.mark.parametrize(("point", "passing"), [("gathered", 1), ("committed", 1), ("written", 0)])
async def test_a_worker_killed_while_something_gathers_adds_it_to_each_digest_once(
    point: str, passing: int, scene: Scene, engine: Engine, connected: Callable[..., Awaitable[Client]]
) -> None:
    await scene.begin(connected)
    await engine.quiet()
    engine.worker.fuse(point).arm(passing=passing)
    await scene.say()
    await engine.worker.child_killed(point)
    await scene.cancel()
    await scene.end()


@pytest.mark.parametrize("point", ["digest read", "digest closed", "digest committed"])
async def test_a_worker_killed_while_digests_close_closes_each_once(
    point: str, scene: Scene, engine: Engine, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    await scene.begin(connected)
    await scene.say()
    await scene.cancel()
    engine.worker.fuse(point).arm(passing=1)
    truth.run(MAKE_DUE, scene.type)
    await engine.worker.child_killed(point)
    await scene.end()


@pytest.mark.parametrize(("point", "happened"), [("closing", False), ("closed", True)])
async def test_the_api_killed_while_it_closes_digests_has_closed_all_or_none_and_they_arrive_once(
    point: str,
    happened: bool,  # a parameter
    scene: Scene,
    engine: Engine,
    backend: Backend,
    connected: Callable[..., Awaitable[Client]],
) -> None:
    await scene.begin(connected)
    await scene.say()
    await scene.cancel()
    await engine.quiet()
    engine.api.fuse(point).arm()
    path = f"/v1/users/{READERS[0]}/digests/close"
    asking = asyncio.create_task(backend.call("POST", path))
    await engine.api.killed(point)
    with pytest.raises(httpx.TransportError):
        await asyncio.wait_for(asking, PATIENCE_S)
    await engine.restart(engine.api)
    closed = (await backend.done("POST", path))["closed"]
    assert [each["count"] for each in closed] == ([] if happened else [3])
    await scene.end()
