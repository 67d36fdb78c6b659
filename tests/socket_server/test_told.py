"""To which nodes something was pushed: noted after the push, told to whoever asks, and in nobody's way."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from models.push import Push
from models.settings import SettingsError, load_settings
from models.states import Priority
from models.told import events_for_all, is_offline, told_of
from tests.api.test_listing import send
from tests.api.test_recipients import dispatched, why
from tests.api.test_topics import TOPIC, changed
from tests.conftest import nobody
from tests.models.test_log import arrive, ingest
from tests.socket_server.conftest import Device, running_node
from tests.workers.test_retain import retain
from workers.push_notes import PushNotes
from workers.resources import Resources
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Running


def id_of(running: Running) -> str:
    return running.application.node._announcer._node


def notes(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute("SELECT * FROM pushed ORDER BY dispatched_at, node").fetchall()


async def told(backend: httpx.AsyncClient, key: str, user: str = "u_1") -> list[tuple[str, str]]:
    """What the timeline of one recipient says of pushes, each between the dispatch and the ack."""
    timeline = (await why(backend, key, user))["timeline"]
    names = [event["event"] for event in timeline]
    found = [(event["event"], event["detail"]) for event in timeline if event["event"] in {"pushed", "offline"}]
    if found:
        place = names.index("dispatched") + 1
        assert names[place : place + len(found)] == [name for name, _ in found]
        times = [datetime.fromisoformat(event["at"]) for event in timeline[place - 1 : place + len(found)]]
        assert times == sorted(times)
    return found


async def told_of_all(backend: httpx.AsyncClient, key: str) -> list[tuple[str, str]]:
    timeline = (await backend.get(f"/v1/notifications/{key}")).json()["timeline"]
    return [(event["event"], event["detail"]) for event in timeline if event["event"] in {"pushed", "offline"}]


async def test_a_recipient_is_told_of_each_node_that_held_them_and_of_none_that_did_not(
    backend: httpx.AsyncClient,
    worker: Resources,
    settings: Settings,
    node: Running,
    device: Callable[[], Device],
) -> None:
    async with running_node(settings) as other:
        phone, laptop = await device().connect(node.url), await device().connect(other.url)
        await device().connect(other.url, "u_2")
        key = await send(backend, to={"users": ["u_1", "u_2", "u_3"]})
        await dispatched(worker)
        await phone.reach(1)
        await laptop.reach(1)
        here, there = id_of(node), id_of(other)
        assert sorted(await told(backend, key)) == sorted(
            [("pushed", f"to the node {here}"), ("pushed", f"to the node {there}")]
        )
        assert await told(backend, key, "u_2") == [("pushed", f"to the node {there}")]
        ((event, detail),) = await told(backend, key, "u_3")
        assert (event, detail.startswith("no node held them")) == ("offline", True)
        assert sorted(await told_of_all(backend, key)) == sorted(
            [("pushed", f"for one user to the node {here}"), ("pushed", f"for 2 users to the node {there}")]
        )
    verdict = (await why(backend, key, "u_3"))["verdict"]
    assert "no device of theirs has said yet that it holds it: none was connected when it came" in verdict
    assert "none was connected" not in (await why(backend, key, "u_2"))["verdict"]


async def test_what_a_device_fetches_later_is_no_push_and_its_ack_tells_of_it(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, node: Running, device: Callable[[], Device]
) -> None:
    key = await send(backend)
    await dispatched(worker)
    late = await device().connect(node.url, since=0)
    await late.reach(1)
    assert (await late.call("ack", {"seq": 1}))["ok"]
    async with asyncio.timeout(10):
        while connection.execute("SELECT acked_seq FROM inbox").fetchall() != [{"acked_seq": 1}]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    found = await why(backend, key)
    assert [event["event"] for event in found["timeline"]] == ["accepted", "dispatched", "offline", "acked"]
    assert "a device of theirs holds it" in found["verdict"]
    ((event, detail),) = await told_of_all(backend, key)
    assert (event, detail.startswith("no node held any of them")) == ("offline", True)


async def test_a_broadcast_is_summed_up_by_node_and_notes_only_who_is_online(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, node: Running, device: Callable[[], Device]
) -> None:
    worker.settings = worker.settings.model_copy(update={"dispatch_batch": 1})  # ten users in each batch
    users = [f"u_{nth:02}" for nth in range(25)]
    await changed(backend, users)
    devices = [await device().connect(node.url, user) for user in (users[3], users[4], users[24])]
    key = await send(backend, to={"topic": TOPIC})
    await dispatched(worker)
    for one in devices:
        await one.reach(1)
    assert [len(row["stretches"]) for row in notes(connection)] == [2, 0, 1]
    ((event, detail),) = await told_of_all(backend, key)
    assert event == "pushed"
    assert detail.startswith(f"for 3 users to the node {id_of(node)}, the last of them at ")
    assert await told(backend, key, users[24]) == [("pushed", f"to the node {id_of(node)}")]
    for user in (users[5], users[15]):
        assert [event for event, _ in await told(backend, key, user)] == ["offline"]


async def test_who_has_several_in_one_batch_is_told_of_each_and_of_no_other(
    backend: httpx.AsyncClient, worker: Resources, node: Running, device: Callable[[], Device]
) -> None:
    before = await send(backend)
    await dispatched(worker)
    phone = await device().connect(node.url)
    keys = [await send(backend, collapse_key=collapse) for collapse in (None, None, "k")]
    await send(backend, to={"user": "u_2"})
    await dispatched(worker)
    await phone.reach(4)
    for key in keys:
        assert await told(backend, key) == [("pushed", f"to the node {id_of(node)}")]
        assert [event for event, _ in await told_of_all(backend, key)] == ["pushed"]
    assert [event for event, _ in await told(backend, before)] == ["offline"]
    newer = await send(backend, collapse_key="k")  # a change and an arrival in one push
    await dispatched(worker)
    assert await told(backend, newer) == [("pushed", f"to the node {id_of(node)}")]


async def test_what_users_do_and_what_is_taken_back_is_not_noted(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, node: Running, device: Callable[[], Device]
) -> None:
    phone = await device().connect(node.url)
    key = await send(backend)
    await dispatched(worker)
    await phone.reach(1)
    assert (await phone.call("act", {"action": "seen", "seqs": [1]}))["ok"]
    assert (await backend.delete(f"/v1/notifications/{key}")).json()["recalled"] == 1
    await dispatched(worker)
    await phone.reach(3)
    assert [(row["node"], row["stretches"]) for row in notes(connection)] == [(id_of(node), [[1, 1, 1]])]
    assert await told(backend, key) == [("pushed", f"to the node {id_of(node)}")]


async def test_it_goes_by_one_clock_and_keeps_what_is_true_of_all_users_names_out(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection, node: Running, device: Callable[[], Device]
) -> None:
    phone = await device().connect(node.url)
    await send(backend)
    await dispatched(worker)
    await phone.reach(1)
    (row,) = connection.execute("SELECT p.*, now() AS now, d.delivered_at FROM pushed p, delivery d").fetchall()
    assert row["dispatched_at"] == row["delivered_at"] < row["at"] < row["now"]
    assert "u_1" not in str(notes(connection))


# --- without it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaking", ["DROP TABLE pushed", "ALTER TABLE pushed ADD CHECK (node = 'no')"])
async def test_a_note_that_cannot_be_written_holds_up_nothing_and_is_not_tried_again_at_once(
    breaking: str, backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    connection.execute(breaking)  # type: ignore[arg-type]
    for nth in range(1, 4):
        ingest(connection, "u_1")
        assert await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody) is False
        assert connection.execute("SELECT count(*) AS n FROM delivery").fetchone() == {"n": nth}
        assert worker.push_notes._rows == []
    assert worker.push_notes._paused_until > time.monotonic()


async def test_a_push_that_redis_did_not_take_is_not_noted(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    worker.redis.connection_pool.connection_kwargs["port"] = 1
    worker.redis.connection_pool.disconnect()
    key = await send(backend)
    await dispatched(worker)
    assert notes(connection) == []
    assert await told(backend, key) == []
    assert await told_of_all(backend, key) == []


async def test_what_is_not_kept_is_not_noted(
    backend: httpx.AsyncClient, settings: Settings, connection: Connection
) -> None:
    worker = Resources.build(settings.model_copy(update={"push_retention_s": 0}))
    key = await send(backend)
    await dispatched(worker)
    worker.close()
    assert notes(connection) == []
    assert await told(backend, key) == []


def test_many_small_batches_are_written_together(connection: Connection) -> None:
    kept = PushNotes(keeps=True)
    (row,) = connection.execute("SELECT now() AS now").fetchall()
    asked: list[str] = []

    def connect() -> Connection:
        asked.append("connected")
        return connection

    for priority in Priority:
        kept.add(priority, row["now"], None, {"a": [Push("default/u", 1, 2, b"", inbox_id=7)]}, time.monotonic())
        kept.write_if_due(connect)
    assert len(asked) == 1, "the first, and those after it wait"
    kept.write(connect)
    kept.write(connect)
    assert len(asked) == 2
    assert [(each["priority"], each["stretches"]) for each in notes(connection)] == [(n, [[7, 1, 2]]) for n in range(4)]
    assert connection.execute("SHOW synchronous_commit").fetchone() == {"synchronous_commit": "on"}


def test_one_that_is_noted_late_has_the_time_at_which_it_was_pushed(connection: Connection) -> None:
    kept = PushNotes(keeps=True)
    (row,) = connection.execute("SELECT now() AS now").fetchall()
    kept.add(Priority.LOW, row["now"], None, {}, time.monotonic() - 60)
    kept.write(lambda: connection)
    (note,) = connection.execute("SELECT now() - at AS ago FROM pushed").fetchall()
    assert note["ago"].total_seconds() == pytest.approx(60, abs=10)


def test_old_ones_are_forgotten_a_few_at_a_time(connection: Connection, worker: Resources) -> None:
    connection.execute(
        "INSERT INTO pushed (dispatched_at, priority, node, at, users, stretches) "
        "SELECT now() - make_interval(secs => nth * 600), 2, node, now(), 0, '[]' "
        "FROM generate_series(1, 1300) nth, unnest('{a,b}'::text[]) node"
    )
    arrive(connection, "u_1")
    retain(worker)
    (row,) = connection.execute("SELECT count(*) AS n FROM pushed").fetchall()
    assert row["n"] == 2 * (7 * 24 * 6 - 1)
    worker.settings = worker.settings.model_copy(update={"push_retention_s": 0})
    retain(worker)
    assert notes(connection) == []


def test_where_nothing_was_noted_nothing_is_known() -> None:
    assert not is_offline([])
    assert events_for_all([]) == []


@pytest.mark.parametrize(
    ("stretches", "users"), [("[]", 0), ("[[1,4,6]]", 1), ("[[1,4,4],[1,6,9]]", 0), ("[[2,5,5],[1,5,5],[1,1,9]]", 2)]
)
def test_numbers_are_looked_for_in_their_own_inbox(stretches: str, users: int) -> None:
    row = {"at": datetime(2026, 1, 1), "node": "a", "stretches": stretches}  # noqa: DTZ001  # no clock is asked
    assert [each["users"] for each in told_of({1: 5, 2: 5}, [row])] == [users]


@pytest.mark.parametrize("value", ["-1", "a week", "1e99"])
def test_a_wrong_setting_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLHOP_PUSH_RETENTION_S", value)
    with pytest.raises(SettingsError, match="BELLHOP_PUSH_RETENTION_S"):
        load_settings()
