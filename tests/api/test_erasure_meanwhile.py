"""Erasing a user while others are at work: broadcasts pass them by, and whoever has to wait does so in one order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from models.database import connect
from models.queries import dispatch as dispatch_sql
from models.queries import erase as sql
from models.queries import withdraw as withdraw_sql
from models.states import Priority
from tests.api.test_erasure import GONE, erased, faults, traces
from tests.api.test_listing import send
from tests.api.test_preferences import set_for
from tests.api.test_recipients import dispatched
from tests.api.test_topics import TOPIC
from tests.conftest import notification, waits_for_a_lock
from tests.socket_server.conftest import eventually
from tests.workers.test_fan_out import broadcast, finish, names, outbox, reached, step, subscribe

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources


async def test_two_whom_the_same_notifications_name_can_go_at_once(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    users = [f"u_{nth}" for nth in range(4)]
    for nth in range(20):
        await send(backend, to={"users": users if nth % 2 else users[::-1]})
    await dispatched(worker)
    found = await asyncio.gather(*(erased(backend, user) for user in users))
    assert sum(counts["deliveries"] for counts in found) == 80
    assert sum(counts["notifications"] for counts in found) == 20
    assert connection.execute("SELECT 1 FROM notification").fetchall() == []
    assert faults(database_url) == ()


@pytest.mark.parametrize(
    "statement", ["LOCK_THOSE_THAT_NAME_THEM", "TAKE_OUT_OF_AUDIENCES", "FORGET_WAITING", "FORGET_ENDED"]
)
async def test_notifications_are_locked_in_one_order_whatever_the_plan(
    statement: str, connection: Connection, database_url: str
) -> None:
    to = {"users": [GONE, "u_1"]} if statement == "TAKE_OUT_OF_AUDIENCES" else {"user": GONE}
    keys = sorted(broadcast(connection, to) for _ in range(20))

    def take_out() -> None:
        with connect(database_url) as other:
            for setting in ("enable_indexscan = off", "enable_seqscan = on"):
                other.execute(f"SET {setting}")  # type: ignore[arg-type]
            other.execute(getattr(sql, statement), {"tenant": "default", "user": GONE, "ids": keys})

    locked = "SELECT id FROM notification WHERE id = %s FOR UPDATE"
    with connection.transaction():
        connection.execute(locked, keys[:1])
        taking_out = asyncio.create_task(asyncio.to_thread(take_out))
        with connect(database_url) as watching:
            await eventually(lambda: waits_for_a_lock(watching))
            for key in keys[1:]:  # none of them is held by who waits for the first
                watching.execute(f"{locked} NOWAIT", [key])
    await taking_out


@pytest.mark.parametrize("to", [{"user": GONE}, {"users": [GONE]}])
async def test_what_is_being_cancelled_goes_with_all_that_cancelling_leaves(
    to: dict[str, Any], backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    key = await send(backend, to=to)
    await dispatched(worker)
    with connect(database_url) as cancelling, cancelling.transaction():
        cancelling.execute(withdraw_sql.FIND_TO_CANCEL, {"tenant": "default", "id": key})
        cancelling.execute(withdraw_sql.BEGIN_RECALL_IF_NEW, {"id": key})
        erasing = asyncio.create_task(erased(backend))
        await eventually(lambda: waits_for_a_lock(connection))
        cancelling.execute(withdraw_sql.NOTE_RECALL, {"id": key, "cancelled": 0, "recalled": 0, "already_read": 1})
    assert (await erasing)["deliveries"] == 1
    assert connection.execute("SELECT 1 FROM notification").fetchall() == []
    assert faults(database_url) == ()


async def test_dispatchers_are_stopped_in_one_order_the_most_urgent_last(
    backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [GONE])
    stopped = (
        "SELECT l.objid::int AS rank FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        "WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted"
    )
    for urgent in (Priority.CRITICAL, Priority.HIGH):
        with connect(database_url) as dispatcher, dispatcher.transaction():
            dispatcher.execute(dispatch_sql.LOCK_PRIORITY, {"lock": dispatch_sql.LOCK_CLASS, "priority": urgent.rank})
            erasing = asyncio.create_task(erased(backend))
            await eventually(lambda: waits_for_a_lock(connection))
            ranks = {row["rank"] for row in connection.execute(stopped)}
            assert ranks == {each.rank for each in Priority if each.rank >= urgent.rank}
        await erasing


@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
async def test_in_the_middle_of_a_broadcast_it_passes_them_by(
    to: dict[str, Any], backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    users = [f"{name}_x" for name in names(25)]
    subscribe(connection, users)
    for user in users:
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [user])
    key = broadcast(connection, to)
    await asyncio.to_thread(step, connection)
    told, on_the_edge, not_yet = users[3], users[9], users[20]
    for user, deliveries in ((told, 1), (on_the_edge, 1), (not_yet, 0)):
        assert (await erased(backend, user))["deliveries"] == deliveries
        assert traces(connection, user) == {"revocation"}
        assert faults(database_url) == ()
    subscribe(connection, [told, not_yet])  # who comes back meanwhile was not there when it became due
    for user in (told, not_yet):
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [user])
    await asyncio.to_thread(finish, connection)
    assert reached(connection, key) == [user for user in users if user not in {told, on_the_edge, not_yet}]
    assert faults(database_url) == ()


@pytest.mark.parametrize("mutes", [False, True])
@pytest.mark.parametrize("has_an_inbox", [False, True])
@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}, {"user": GONE}, {"users": ["u_1", GONE]}])
async def test_it_waits_for_a_dispatcher_that_is_about_to_deliver_to_them(
    to: dict[str, Any],
    has_an_inbox: bool,
    mutes: bool,
    backend: httpx.AsyncClient,
    connection: Connection,
    worker: Resources,
) -> None:
    subscribe(connection, [GONE])
    if has_an_inbox:
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [GONE])
    if mutes:
        await set_for(backend, GONE, mutes={"domains": ["blog"]})
    broadcast(connection, to)
    dispatcher = worker.postgres()
    with dispatcher.transaction():
        step(dispatcher)
        erasing = asyncio.create_task(erased(backend))
        await eventually(lambda: connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())
        assert not erasing.done()
    counts = await erasing
    theirs = int(has_an_inbox or "everyone" not in to)
    assert (counts["deliveries"], counts["suppressions"]) == ((0, theirs) if mutes else (theirs, 0))
    assert traces(connection) == {"revocation"}
    assert faults(worker.settings.database_url) == ()


async def test_under_load_whoever_is_erased_is_gone_and_the_rest_is_in_order(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    users = [f"u_{nth:03}_x" for nth in range(300)]
    subscribe(connection, users)
    gone = users[::60]
    for nth in range(30):
        items = [notification(to={"users": [*gone[:3], f"other_{nth}"]}), notification(user=gone[nth % 5])]
        items += [notification(to={"topic": TOPIC}), notification(to={"everyone": True})]
        await backend.post("/v1/notifications/bulk", json={"notifications": items})

    def dispatch() -> None:
        while outbox(worker.postgres()):
            step(worker.postgres(), limit=500)

    dispatching = asyncio.create_task(asyncio.to_thread(dispatch))
    found = []
    for user in gone:
        left = outbox(connection)
        found.append(await erased(backend, user))
        await eventually(
            lambda left=left: dispatching.done() or outbox(connection) < left
        )  # it is not held up for long
    await dispatching
    for user in gone:
        assert traces(connection, user) == {"revocation"}
    assert sum(counts["notifications"] for counts in found) == 30
    assert faults(database_url) == ()
