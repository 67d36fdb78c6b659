"""The API dies with a request in hand. The backend gets no answer and asks again with the same key.

After each: there is one notification and one delivery, and the second answer says whether it is a replay.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from tests.crash_points.engine import PATIENCE_S
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash_points.conftest import Backend, Client
    from tests.crash_points.engine import Engine
    from tests.crash_points.truth import Truth

_WAITS_FOR_THE_LOCK = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO notification%'
"""


async def no_answer(asking: asyncio.Task[httpx.Response]) -> None:
    with pytest.raises(httpx.TransportError):
        await asyncio.wait_for(asking, PATIENCE_S)


async def test_killed_before_the_commit_the_retry_is_the_first_that_counts(
    engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    client = await connected("uncommitted", engine.nodes[0])
    engine.api.fuse("not inserted").arm()
    asking = asyncio.create_task(backend.send("uncommitted", "key-1"))
    await engine.api.killed("not inserted")
    await no_answer(asking)
    assert truth.notifications("key-1") == []

    await engine.restart(engine.api)
    response = await backend.send("uncommitted", "key-1")
    assert (response.status_code, response.headers.get("idempotent-replayed")) == (202, None)
    await client.holds(backend, 1)
    await truth.adds_up()
    await once(truth, "uncommitted", "key-1", response.json())


async def test_killed_between_commit_and_answer_it_is_delivered_without_a_hint_and_the_retry_is_a_replay(
    engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    client = await connected("committed", engine.nodes[0])
    await engine.quiet()
    engine.api.fuse("inserted").arm()
    asking = asyncio.create_task(backend.send("committed", "key-2"))
    await engine.api.killed("inserted")
    await no_answer(asking)
    await client.reach(1)  # while there is no API, and nobody has hinted: the sweep finds it

    await engine.restart(engine.api)
    response = await backend.send("committed", "key-2")
    assert (response.status_code, response.headers.get("idempotent-replayed")) == (202, "true")
    await client.holds(backend, 1)
    await truth.adds_up()
    await once(truth, "committed", "key-2", response.json())


async def test_killed_while_postgres_works_on_its_statement_the_retry_is_a_replay_of_what_was_committed(
    engine: Engine, backend: Backend, truth: Truth, connected: Callable[..., Awaitable[Client]]
) -> None:
    client = await connected("under-way", engine.nodes[0])
    await engine.quiet()
    with psycopg.connect(engine.settings.database_url) as holder:
        holder.execute("LOCK TABLE notification IN EXCLUSIVE MODE")  # readers go on; the insert waits
        asking = asyncio.create_task(backend.send("under-way", "key-3"))
        await eventually(lambda: truth.rows(_WAITS_FOR_THE_LOCK), PATIENCE_S)
        engine.api.kill()
        await no_answer(asking)
        assert truth.notifications("key-3") == []
    await eventually(lambda: truth.notifications("key-3"), PATIENCE_S)
    await client.reach(1)

    await engine.restart(engine.api)
    response = await backend.send("under-way", "key-3")
    assert (response.status_code, response.headers.get("idempotent-replayed")) == (202, "true")
    await client.holds(backend, 1)
    await truth.adds_up()
    await once(truth, "under-way", "key-3", response.json())


async def once(truth: Truth, user: str, key: str, answer: dict[str, Any]) -> None:
    assert [row["id"] for row in truth.notifications(key)] == [answer["id"]]
    assert [row["id"] for row in truth.deliveries([user])] == [answer["id"]]


# --- rooms -------------------------------------------------------------------------------------------------------


async def test_killed_before_an_event_is_committed_the_retry_is_the_first_that_counts(
    engine: Engine, backend: Backend, connected: Callable[..., Awaitable[Client]]
) -> None:
    room = "shop:order:uncommitted"
    client = await connected("u_room_1", engine.nodes[0])
    await client.device.join(room)
    engine.api.fuse("event not inserted").arm()
    asking = asyncio.create_task(backend.say(room, "key-1", 1))
    await engine.api.killed("event not inserted")
    await no_answer(asking)

    await engine.restart(engine.api)
    response = await backend.say(room, "key-1", 1)
    assert (response.json()["seq"], response.headers.get("idempotent-replayed")) == (1, None)
    await client.device.reach_in(room, 1)
    assert client.device.heard(room) == [1]


async def test_killed_after_the_commit_of_an_event_members_hear_of_it_and_the_retry_is_a_replay(
    engine: Engine, backend: Backend, connected: Callable[..., Awaitable[Client]]
) -> None:
    room = "shop:order:committed"
    clients = [await connected(f"u_room_{nth}", node) for nth, node in enumerate(engine.nodes)]
    for client in clients:
        await client.device.join(room)
    engine.api.fuse("event inserted").arm()
    asking = asyncio.create_task(backend.say(room, "key-2", 2))
    await engine.api.killed("event inserted")
    await no_answer(asking)
    for client in clients:
        await client.device.reach_in(room, 1)  # while there is no API, and nobody was told: the check of heads finds it

    await engine.restart(engine.api)
    response = await backend.say(room, "key-2", 2)
    assert (response.json()["seq"], response.headers.get("idempotent-replayed")) == (1, "true")
    await backend.say(room, "key-3", 3)
    for client in clients:
        await client.device.reach_in(room, 2)
        assert client.device.heard(room) == [2, 3]
