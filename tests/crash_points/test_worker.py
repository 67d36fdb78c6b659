"""A process of a worker's pool dies in the middle of a dispatch, with one user's devices on two nodes.

After each: every device holds every number once and shows what a fresh read shows, each notification is in each of its
inboxes once and in order, and the outbox is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash_points.conftest import Backend, Client
    from tests.crash_points.engine import Engine
    from tests.crash_points.truth import Truth

EACH = 12
pytestmark = pytest.mark.usefixtures("every_death_is_noticed")


class Scene:
    """Ada with a device on each node and Bob with one, and a worker that dies while it dispatches to both."""

    def __init__(self, engine: Engine, backend: Backend, truth: Truth) -> None:
        self._engine, self._backend, self._truth = engine, backend, truth
        self.devices: list[Client] = []
        self.deliveries: list[dict[str, Any]] = []

    async def play(self, point: str, connected: Callable[..., Awaitable[Client]]) -> dict[str, Any]:
        """Let a child die at `point`, check what must be true in the end, and return what the child saw."""
        ada, bob = f"ada {point}".replace(" ", "-"), f"bob {point}".replace(" ", "-")
        first, second = self._engine.nodes
        self.devices = [await connected(ada, first), await connected(ada, second), await connected(bob, first)]
        worker = self._engine.worker
        worker.fuse(point).arm()
        await self._backend.send_together(ada, bob, each=EACH)
        seen = await worker.child_killed(point)
        for device in self.devices:
            await device.holds(self._backend, EACH)
        await self._truth.adds_up()
        self.deliveries = self._truth.deliveries([ada, bob])
        assert len(self.deliveries) == 2 * EACH
        return seen


@pytest.fixture
def scene(engine: Engine, backend: Backend, truth: Truth) -> Scene:
    return Scene(engine, backend, truth)


@pytest.mark.parametrize("point", ["claimed", "written"])
async def test_killed_before_its_commit_it_leaves_nothing_and_the_batch_is_dispatched_by_another(
    point: str, scene: Scene, connected: Callable[..., Awaitable[Client]]
) -> None:
    seen = await scene.play(point, connected)
    assert min(delivery["at"] for delivery in scene.deliveries) > seen["at"]


async def test_killed_after_its_commit_and_before_publishing_the_nodes_find_what_nobody_told_them(
    scene: Scene, connected: Callable[..., Awaitable[Client]]
) -> None:
    seen = await scene.play("committed", connected)
    assert max(delivery["at"] for delivery in scene.deliveries) < seen["at"]


async def test_killed_between_two_nodes_the_one_that_was_not_told_finds_out_and_the_other_shows_nothing_twice(
    scene: Scene, connected: Callable[..., Awaitable[Client]]
) -> None:
    seen = await scene.play("half published", connected)
    assert (seen["heard"], seen["told"], seen["of"]) == (1, 1, 2)
    assert max(delivery["at"] for delivery in scene.deliveries) < seen["at"]


async def test_killed_after_publishing_and_before_the_message_is_acknowledged_nothing_is_done_again(
    scene: Scene, connected: Callable[..., Awaitable[Client]]
) -> None:
    seen = await scene.play("published", connected)
    assert max(delivery["at"] for delivery in scene.deliveries) < seen["at"]


async def test_killed_before_it_lowers_its_flag_what_comes_next_is_dispatched_though_somebody_seems_to_look(
    scene: Scene, engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    seen = await scene.play("idle", connected)
    assert max(delivery["at"] for delivery in scene.deliveries) < seen["at"]
    engine.worker.fuse("idle").arm()
    await backend.send_together(scene.devices[0].user, each=1)
    await engine.worker.child_killed("idle")
    await backend.send_together(scene.devices[0].user, each=1)  # at once, while the flag of the dead one is up
    for device in scene.devices[:2]:
        await device.holds(backend, EACH + 2)
    await truth.adds_up()
