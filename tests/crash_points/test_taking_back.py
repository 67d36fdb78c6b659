"""Who takes something back dies: a worker in a large recall or a round of retention, the API in a small recall.

After each: what was answered is what happened, once; devices show what a fresh read shows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.crash_points.conftest import KEPT, RETAINED
from tests.crash_points.engine import PATIENCE_S
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash_points.conftest import Backend, Client
    from tests.crash_points.engine import Engine
    from tests.crash_points.truth import Truth

pytestmark = pytest.mark.usefixtures("every_death_is_noticed")

TOPIC = "crash:recalled"
CROWD = [f"crowd-{nth:04}" for nth in range(5_200)]  # more than one transaction takes back
WITHDRAWN = """
SELECT w.cancelled, w.recalled, w.already_read, w.withdrawn, count(d.deleted_at) AS deleted, count(*) AS delivered
FROM withdrawal w JOIN delivery d USING (notification_id) WHERE notification_id = %s GROUP BY 1, 2, 3, 4
"""
TAKEN_OUT_TWICE = """
SELECT c.inbox_id, d.seq FROM delivery d
JOIN inbox_change c ON c.inbox_id = d.inbox_id AND c.action = 'delete' AND d.seq = ANY(c.seqs)
WHERE d.notification_id = %s GROUP BY 1, 2 HAVING count(*) > 1
"""


@pytest.fixture(scope="module")
async def topic(engine: Engine) -> str:
    async with httpx.AsyncClient(base_url=engine.api.url, headers=engine.headers, trust_env=False) as client:
        for start in range(0, len(CROWD), 1_000):
            response = await client.put(f"/v1/topics/{TOPIC}/subscribers", json={"users": CROWD[start : start + 1_000]})
            assert response.status_code == 200, response.text
    return TOPIC


@pytest.mark.parametrize(("point", "passing"), [("withdrawn", 0), ("withdrawn", 1), ("committed", 0)])
async def test_a_worker_killed_in_a_large_recall_takes_it_from_each_once(  # noqa: PLR0917  # a scene
    point: str,
    passing: int,
    topic: str,
    engine: Engine,
    backend: Backend,
    truth: Truth,
    connected: Callable[..., Awaitable[Client]],
) -> None:
    first, second = engine.nodes
    places = [(CROWD[0], first), (CROWD[0], second), (CROWD[-1], first), (CROWD[1], second)]
    everybody = [await connected(user, node, since=0) for user, node in places]
    *devices, reader = everybody
    heads = [truth.head(device.user) for device in everybody]
    said = await backend.done("POST", "/v1/notifications", to={"topic": topic}, type="crash.recall.sent", title="Oh")
    for device, head in zip(everybody, heads, strict=True):
        await device.reach(head + 1)
    await truth.adds_up()
    await reader.device.call("act", {"action": "read", "seqs": [heads[-1] + 1]})
    await engine.quiet()

    engine.worker.fuse(point).arm(passing=passing)
    told = await backend.done("DELETE", f"/v1/notifications/{said['id']}")
    assert (told["cancelled"], told["recalled"], told["already_read"]) == (0, len(CROWD) - 1, 1)
    await engine.worker.child_killed(point)
    for device, head in zip(devices, heads, strict=False):
        await device.holds(backend, head + 2)
        assert device.device.replica.items == {}
    await truth.adds_up()
    (done,) = truth.rows(WITHDRAWN, said["id"])
    assert done == {
        "cancelled": 0,
        "recalled": len(CROWD) - 1,
        "already_read": 1,
        "withdrawn": len(CROWD) - 1,
        "deleted": len(CROWD) - 1,
        "delivered": len(CROWD),
    }
    assert truth.rows(TAKEN_OUT_TWICE, said["id"]) == []
    assert await backend.done("DELETE", f"/v1/notifications/{said['id']}") == told
    await reader.holds(backend, heads[-1] + 2)


@pytest.mark.parametrize(("point", "happened"), [("recalling", False), ("recalled", True)])
async def test_the_api_killed_in_a_small_recall_has_done_all_or_nothing_and_answers_the_same_afterwards(
    point: str,
    happened: bool,  # a parameter
    engine: Engine,
    backend: Backend,
    truth: Truth,
    connected: Callable[..., Awaitable[Client]],
) -> None:
    ada, bob = f"ada-{point}", f"bob-{point}"
    phones = [await connected(ada, engine.nodes[0]), await connected(ada, engine.nodes[1])]
    sent = await backend.send(ada, point, to={"users": [ada, bob]})
    for phone in phones:
        await phone.reach(1)
    engine.api.fuse(point).arm()
    asking = asyncio.create_task(backend.call("DELETE", f"/v1/notifications/{sent.json()['id']}"))
    await engine.api.killed(point)
    with pytest.raises(httpx.TransportError):
        await asyncio.wait_for(asking, PATIENCE_S)
    assert [len(truth.changes(user)) for user in (ada, bob)] == ([1, 1] if happened else [0, 0])

    if not happened:
        await engine.restart(engine.api)
        await backend.done("DELETE", f"/v1/notifications/{sent.json()['id']}")
    for phone in phones:
        await phone.reach(2)  # whoever was told of nothing finds out from Postgres, also where there is no API
        assert phone.device.replica.items == {}
    if happened:
        await engine.restart(engine.api)
    told = await backend.done("DELETE", f"/v1/notifications/{sent.json()['id']}")
    assert (told["cancelled"], told["recalled"], told["already_read"]) == (0, 2, 0)
    for phone in phones:
        await phone.holds(backend, 2)
    await truth.adds_up()


@pytest.mark.parametrize("point", ["retired", "retired and untold", "retired and told"])
async def test_a_worker_killed_in_a_round_of_retention_leaves_the_newest_and_removes_the_others_once(
    point: str, engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    user = point.replace(" ", "-")
    devices = [await connected(user, node) for node in engine.nodes]
    engine.worker.fuse(point).arm()
    items: list[dict[str, Any]] = [
        {"to": {"user": user}, "type": f"{RETAINED}.{user}", "title": f"{nth}"} for nth in range(KEPT + 7)
    ]
    await backend.done("POST", "/v1/notifications/bulk", notifications=items)
    await engine.worker.child_killed(point)
    await eventually(lambda: truth.changes(user), PATIENCE_S)
    (change,) = truth.changes(user)
    assert (change["seq"], change["action"], change["seqs"]) == (KEPT + 8, "delete", list(range(1, 8)))
    for device in devices:
        await device.holds(backend, KEPT + 8)
        assert sorted(device.device.replica.items) == list(range(8, KEPT + 8))
    await truth.adds_up()
