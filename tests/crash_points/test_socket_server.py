"""A socket node dies with frames or actions in hand. Its clients come back with the number that they hold.

After each: every device got each number once, and shows what a fresh read shows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.crash_points.engine import PATIENCE_S
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash_points.conftest import Backend, Client
    from tests.crash_points.engine import Engine
    from tests.crash_points.truth import Truth

_PAGE = 100


async def test_killed_with_a_push_in_hand_its_client_gets_it_from_another_node(
    engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    first, second = engine.nodes
    phone, laptop = await connected("pushed", first), await connected("pushed", second)
    first.fuse("push read").arm()
    await backend.send_together("pushed", each=3)
    await first.killed("push read")
    assert phone.numbers == []
    await laptop.holds(backend, 3)
    await phone.come_back(second)
    await phone.holds(backend, 3)
    await truth.adds_up()


@pytest.mark.parametrize("point", ["page read", "half a page"])
async def test_killed_within_the_second_page_of_a_catch_up_its_client_goes_on_after_the_first(
    point: str, engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    user = point.replace(" ", "-")
    await backend.send_together(user, each=2 * _PAGE + 50)
    await truth.adds_up()
    first = engine.nodes[0]
    first.fuse(point).arm(passing=1)
    phone = await connected(user, first, since=0)
    seen = await first.killed(point)
    await eventually(lambda: not phone.device.client.connected, PATIENCE_S)
    assert 0 < seen.get("written", 1) < seen.get("of", 2)
    assert phone.numbers == list(range(1, _PAGE + 1)), "a whole page, and nothing of the torn one"
    await engine.restart(first)
    await phone.come_back(first)
    await phone.holds(backend, 2 * _PAGE + 50)


async def act(phone: Client) -> dict[str, object]:
    return await phone.device.call("act", {"action": "read", "seqs": [2]})


async def test_killed_before_the_commit_of_an_action_nothing_has_happened_and_the_client_does_it_again(
    engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    first, second = engine.nodes
    phone, laptop = await connected("acting", first), await connected("acting", second)
    await backend.send_together("acting", each=3)
    await phone.reach(3)
    first.fuse("acting").arm()
    asking = asyncio.create_task(act(phone))
    await first.killed("acting")
    assert not asking.done()
    asking.cancel()
    assert truth.changes("acting") == []

    await phone.come_back(second)
    answer = await act(phone)
    assert (answer["ok"], answer["changed"], answer["seq"]) == (True, 1, 4)
    await phone.holds(backend, 4)
    await laptop.holds(backend, 4)
    assert [entry["kind"] for entry in laptop.entries] == ["arrival"] * 3 + ["change"]
    await truth.adds_up()


@pytest.mark.parametrize("point", ["acted", "told"])
async def test_killed_between_the_commit_of_an_action_and_its_answer_every_device_sees_the_change_once(
    point: str, engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    first, second = engine.nodes
    phone, laptop = await connected(point, first), await connected(point, second)
    await backend.send_together(point, each=3)
    await phone.reach(3)
    await laptop.reach(3)
    first.fuse(point).arm()
    asking = asyncio.create_task(act(phone))
    seen = await first.killed(point)
    assert not asking.done()
    asking.cancel()
    (change,) = truth.changes(point)
    assert (change["seq"], change["action"], change["seqs"]) == (4, "read", [2])
    assert change["at"] < seen["at"]
    await laptop.holds(backend, 4)

    await phone.come_back(second)
    await phone.reach(4)
    answer = await act(phone)
    assert (answer["ok"], answer["changed"], answer["seq"]) == (True, 0, 4)
    for device in (phone, laptop):
        await device.holds(backend, 4)
        assert [entry["kind"] for entry in device.entries] == ["arrival"] * 3 + ["change"]
    await truth.adds_up()
