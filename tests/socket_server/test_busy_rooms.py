"""A busy room: whoever joins it misses nothing, whoever does not keep up catches up, and neither holds up the rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from api.room_events import Draft
from models.contracts import RoomEventIn
from tests.conftest import running_api
from tests.socket_server.conftest import eventually
from tests.socket_server.test_rooms import GRANTS, ROOM

if TYPE_CHECKING:
    from models.settings import Settings
    from tests.socket_server.conftest import Arrive, Make, Publish, Running


async def test_who_joins_while_a_room_is_busy_misses_nothing(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)

    async def go_on() -> None:
        for nth in range(0, 600, 3):
            await publish(ROOM, range(nth, nth + 3))

    publishing = asyncio.create_task(go_on())
    late = []
    for nth in range(10):
        late.append(await device().connect(node.url, f"u_{nth}", rooms=GRANTS))
        await late[-1].join(ROOM, **({"since": 0} if nth % 2 else {}))
    await publishing
    for each in [one, *late]:
        await each.reach_in(ROOM, 600)
    for each in late[1::2]:
        assert each.heard(ROOM) == list(range(600))


async def test_a_hot_room_is_batched_into_frames(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    for nth in range(0, 1_000, 5):
        await publish(ROOM, range(nth, nth + 5))
    await one.reach_in(ROOM, 1_000)
    assert one.heard(ROOM) == list(range(1_000))
    assert len(one.rooms[ROOM]) < 150


async def test_a_hot_room_does_not_hold_up_inboxes(
    node: Running, device: Make, publish: Publish, arrive: Arrive
) -> None:
    one = await device().connect(node.url, rooms=GRANTS)
    await one.join(ROOM)
    enough, published = asyncio.Event(), 0

    async def stay_busy() -> None:
        nonlocal published
        while not enough.is_set():
            await publish(ROOM, range(published, published + 100))
            published += 100

    busy = asyncio.create_task(stay_busy())
    await eventually(lambda: one.room_seqs[ROOM])
    for nth in range(1, 6):  # while the room never falls silent
        await arrive()
        await one.reach(nth)
    enough.set()
    await busy
    await one.reach_in(ROOM, published)


async def test_a_member_that_does_not_read_holds_up_nobody_and_catches_up(
    node: Running, device: Make, settings: Settings
) -> None:
    slow = await device().connect(node.url, rooms=GRANTS)
    fast = await device().connect(node.url, "u_2", rooms=GRANTS)
    await slow.join(ROOM)
    await fast.join(ROOM)
    (connection,) = node.node._registry.of_user("default/u_1")
    stream = connection.rooms[ROOM]
    transport = slow.client.eio.ws._response.connection.transport
    transport.pause_reading()
    sent = 0
    async with running_api(settings) as api, asyncio.timeout(60):
        events = api._transport.app.state.resources.room_events  # type: ignore[attr-defined]
        while stream.live:  # past what the kernel takes on both sides, and the node's own megabyte
            await publish_large(events, range(sent, sent + 20))
            sent += 20
            await fast.reach_in(ROOM, sent)
    assert slow.room_seqs[ROOM] < sent
    transport.resume_reading()
    await slow.reach_in(ROOM, sent)
    assert slow.heard(ROOM) == list(range(sent))
    await eventually(lambda: stream.live)


async def publish_large(events: Any, numbers: range) -> None:
    said = [RoomEventIn(event="x", data={"nth": nth, "much": "y" * 15_000}) for nth in numbers]
    await asyncio.gather(*(events.publish(Draft.of("default", ROOM, each, None)) for each in said))
