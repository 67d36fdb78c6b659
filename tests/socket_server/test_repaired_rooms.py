"""What gets lost on the way into a room is repaired: pushes that vanish, cross or come twice, and all of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.push import ROOM_EVENT, Push
from tests.socket_server.conftest import eventually
from tests.socket_server.test_rooms import GRANTS, ROOM

if TYPE_CHECKING:
    import redis.asyncio

    from tests.socket_server.conftest import Make, Publish, Running


async def test_a_push_that_redis_lost_is_read_once_for_the_whole_room(
    node: Running, device: Make, publish: Publish
) -> None:
    devices = [await device().connect(node.url, f"u_{nth}", rooms=GRANTS) for nth in range(10)]
    for one in devices:
        await one.join(ROOM)
    asked: list[int] = []
    store = node.node._rooms._store
    original = store.page

    async def counted(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return await original(*arguments)

    store.page = counted  # type: ignore[method-assign]
    for bus in node.node._buses:
        bus._on_push = lambda _: None
    await publish(ROOM, range(3))
    for one in devices:
        await one.reach_in(ROOM, 3)
        assert one.heard(ROOM) == [0, 1, 2]
    assert asked == [0]


async def test_pushes_that_crossed_go_out_in_order(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    pushes: list[Push] = []
    for bus in node.node._buses:
        bus._on_push = pushes.append
    for nth in range(5):
        await publish(ROOM, [nth])
    await eventually(lambda: sum(push.last - push.first + 1 for push in pushes) == 5)
    for push in reversed(pushes * 2):
        node.node._rooms.on_push(push)
    await one.reach_in(ROOM, 5)
    assert one.heard(ROOM) == list(range(5))


async def test_a_stretch_that_was_read_half_already_is_no_gap(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    await publish(ROOM, [0])
    await one.reach_in(ROOM, 1)
    for bus in node.node._buses:
        bus._on_push = lambda _: None
    await publish(ROOM, [1, 2])
    node.node._rooms.on_push(Push("default/#shop:order:42", 1, 3, b"what it held overlaps", ROOM_EVENT))
    await one.reach_in(ROOM, 3)
    assert one.heard(ROOM) == [0, 1, 2]


async def test_after_flushall_a_room_goes_on(
    node: Running, device: Make, publish: Publish, redis_client: redis.asyncio.Redis
) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    await redis_client.flushall()
    await publish(ROOM, range(3))
    await one.reach_in(ROOM, 3)
    await node.node._announcer.announce()
    await publish(ROOM, range(3, 6))
    await one.reach_in(ROOM, 6)
