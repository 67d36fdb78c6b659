"""When a notification was acked, seen and read: of one recipient, and of all of them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from models.database import connect
from tests.api.test_listing import send
from tests.api.test_recipients import dispatched, why
from tests.conftest import ack, as_user, waits_for_a_lock
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources


def clock(connection: Connection) -> datetime:
    """Return the time by Postgres."""
    (row,) = connection.execute("SELECT clock_timestamp() AS now").fetchall()
    now: datetime = row["now"]
    return now


async def test_the_time_of_each_ack_is_known(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    keys = [await send(backend) for _ in range(4)]
    await dispatched(worker)
    connection.execute("UPDATE inbox SET acked_seq = 1")  # as a version did that kept no times
    times = {}
    for seq in (1, 3, 3, 2, 4):  # a second one, and one that comes late, say nothing new
        before = clock(connection)
        ack(connection, u_1=seq)
        times.setdefault(seq, (before, clock(connection)))
    acked = {}
    for seq, key in enumerate(keys, 1):
        timeline = (await why(backend, key))["timeline"]
        (acked[seq],) = [(event["at"], event["detail"]) for event in timeline if event["event"] == "acked"]
    assert acked.pop(1) == (None, "a device of theirs holds everything up to 4")
    for seq, by in ((2, 3), (3, 3), (4, 4)):
        at, detail = acked[seq]
        before, after = times[by]
        assert before < datetime.fromisoformat(at) < after
        assert detail == f"a device of theirs held everything up to {by}"


async def test_a_notification_says_when_it_was_acked_seen_and_read(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    users = ["u_1", "u_2", "u_3", "u_4"]
    key = await send(backend, to={"users": users})
    await dispatched(worker)
    began = clock(connection)
    ack(connection, u_1=1)
    ack(connection, u_2=1, u_3=1)
    for user, patch in (("u_2", {"seen": True}), ("u_1", {"read": True})):
        await backend.patch("/v1/inbox/1", json=patch, headers=as_user(user))
    seen = (await backend.get(f"/v1/notifications/{key}")).json()
    assert seen["counts"] == {"recipients": 4, "suppressed": 0, "acked": 3, "seen": 2, "read": 1}
    events = [event for event in seen["timeline"] if event["event"] in {"acked", "seen", "read"}]
    assert [event["event"] for event in events] == ["acked", "seen", "read"]
    acks = connection.execute("SELECT min(at) AS first, max(at) AS last FROM ack").fetchall()[0]
    until = f", the last of them at {acks['last']:%Y-%m-%d %H:%M:%S} UTC"
    assert (events[0]["detail"], datetime.fromisoformat(events[0]["at"])) == (
        f"a device of 3 users held everything up to it{until}",
        acks["first"],
    )
    assert events[1]["detail"].startswith("2 users saw it, the last of them at ")
    assert events[2]["detail"] == "one user read it"
    assert all(began < datetime.fromisoformat(event["at"]) < clock(connection) for event in events)


async def test_an_ack_past_the_head_of_an_inbox_that_is_written_to_goes_up_to_its_new_head(
    connection: Connection, database_url: str
) -> None:
    connection.execute("INSERT INTO inbox (tenant, user_id, last_seq) VALUES ('default', 'u_1', 3)")
    with connect(database_url) as dispatcher, connect(database_url) as node:
        with dispatcher.transaction():
            dispatcher.execute("UPDATE inbox SET last_seq = 4")
            acking = asyncio.create_task(asyncio.to_thread(ack, node, u_1=9))  # of one that was erased
            await eventually(lambda: waits_for_a_lock(connection))
        await acking
    assert connection.execute("SELECT acked_seq FROM inbox").fetchall() == [{"acked_seq": 4}]
    assert connection.execute("SELECT since, seq FROM ack").fetchall() == [{"since": 0, "seq": 4}]


async def test_of_what_was_taken_back_before_a_device_came_nobody_says_that_it_held_it(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    key = await send(backend)
    await dispatched(worker)
    await backend.delete(f"/v1/notifications/{key}")
    ack(connection, u_1=2)  # the deletion alone: its log has no arrival any more
    (*_, told) = (await backend.get(f"/v1/notifications/{key}")).json()["timeline"]
    assert (told["event"], told["detail"]) == ("acked", "a device of one user held everything up to it")
    (*_, told) = (await why(backend, key))["timeline"]
    assert (told["event"], told["detail"]) == ("acked", "a device of theirs held everything up to 2")
