"""What backends say of rooms: committed, numbered without a gap, in one order whoever publishes, kept for a while."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from models.contracts import RoomEventOut, RoomLogPage
from models.keys import create_key
from models.retention import Kept
from tests.api.test_notifications import problem
from tests.conftest import running_api
from workers.tasks import trim_until_done

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources

ROOM = "shop:order:42"


def event(nth: int = 0, **changes: Any) -> dict[str, Any]:
    return {"event": "order.updated", "data": {"nth": nth}, **changes}


async def publish(client: httpx.AsyncClient, nth: int = 0, room: str = ROOM, **headers: str) -> httpx.Response:
    return await client.post(f"/v1/rooms/{room}/events", json=event(nth), headers=headers)


async def log(client: httpx.AsyncClient, room: str = ROOM, **query: int) -> dict[str, Any]:
    response = await client.get(f"/v1/rooms/{room}/log", params=query)
    assert response.status_code == 200, response.text
    RoomLogPage.model_validate(response.json())
    page: dict[str, Any] = response.json()
    return page


def order(page: dict[str, Any]) -> list[int]:
    return [entry["data"]["nth"] for entry in page["entries"]]


async def test_events_are_numbered_and_can_be_read_again(backend: httpx.AsyncClient) -> None:
    for nth in range(3):
        response = await publish(backend, nth)
        assert (response.status_code, response.json()) == (202, {"room": ROOM, "seq": nth + 1})
        RoomEventOut.model_validate(response.json())
    page = await log(backend)
    assert (page["from"], page["to"], page["head"], page["reset"], order(page)) == (1, 3, 3, False, [0, 1, 2])
    assert page["entries"][0]["event"] == "order.updated"
    page = await log(backend, since=1, limit=1)
    assert (page["from"], page["to"], page["head"], order(page)) == (2, 2, 3, [1])
    assert [entry["at"] for entry in (await log(backend))["entries"]] == sorted(
        entry["at"] for entry in (await log(backend))["entries"]
    )


async def test_a_room_that_nobody_published_into_is_empty(backend: httpx.AsyncClient) -> None:
    page = await log(backend)
    assert (page["from"], page["to"], page["head"], page["reset"], page["entries"]) == (1, 0, 0, False, [])


async def test_a_number_beyond_the_head_is_a_reset(backend: httpx.AsyncClient) -> None:
    await publish(backend)
    page = await log(backend, since=7)
    assert (page["reset"], page["head"], page["entries"]) == (True, 1, [])


async def test_events_of_one_caller_keep_their_order_among_many(backend: httpx.AsyncClient) -> None:
    async def caller(number: int) -> None:
        for nth in range(20):
            assert (await publish(backend, 100 * number + nth)).status_code == 202

    await asyncio.gather(*(caller(number) for number in range(10)))
    found = order(await log(backend))
    assert len(found) == 200
    for number in range(10):
        assert [nth for nth in found if nth // 100 == number] == [100 * number + nth for nth in range(20)]


async def test_several_api_processes_number_one_room_without_a_gap(
    settings: Settings, backend: httpx.AsyncClient
) -> None:
    async with running_api(settings) as other:
        other.headers["authorization"] = backend.headers["authorization"]

        async def caller(client: httpx.AsyncClient, number: int) -> list[int]:
            return [(await publish(client, 100 * number + nth)).json()["seq"] for nth in range(25)]

        answered = await asyncio.gather(*(caller((backend, other)[number % 2], number) for number in range(8)))
    page = await log(backend)
    assert [entry["seq"] for entry in page["entries"]] == list(range(1, 201))
    by_seq = {entry["seq"]: entry["data"]["nth"] for entry in page["entries"]}
    for number, seqs in enumerate(answered):
        assert [by_seq[seq] for seq in seqs] == [100 * number + nth for nth in range(25)]
        assert seqs == sorted(seqs)


async def test_rooms_are_numbered_by_themselves_and_by_tenant(backend: httpx.AsyncClient, database_url: str) -> None:
    await publish(backend, 1)
    await publish(backend, 2, "shop:order:43")
    _, theirs = create_key(database_url, tenant="other", scopes=["admin"], name="other")
    mine = backend.headers["authorization"]
    backend.headers["authorization"] = f"Bearer {theirs}"
    assert (await publish(backend, 3)).json()["seq"] == 1
    assert order(await log(backend)) == [3]
    backend.headers["authorization"] = mine
    assert order(await log(backend)) == [1]
    assert order(await log(backend, "shop:order:43")) == [2]


# --- idempotency -----------------------------------------------------------------------------------------------------


async def test_the_same_key_and_body_make_one_event(backend: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "once"}
    first, again = await publish(backend, 1, **key), await publish(backend, 1, **key)
    assert (first.json(), again.json()) == ({"room": ROOM, "seq": 1}, {"room": ROOM, "seq": 1})
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert problem(await publish(backend, 2, **key))["code"] == "idempotency_mismatch"
    assert (await publish(backend, 2, "shop:order:43", **key)).json()["seq"] == 1  # a key is a room's own
    assert order(await log(backend)) == [1]


async def test_a_hundred_at_once_over_two_processes_make_one_event(
    settings: Settings, backend: httpx.AsyncClient
) -> None:
    async with running_api(settings) as other:
        other.headers["authorization"] = backend.headers["authorization"]
        for client in (backend, other):
            await log(client)  # connections are there before everybody comes at once
        key = {"Idempotency-Key": "once"}
        answers = await asyncio.gather(*(publish((backend, other)[nth % 2], 1, **key) for nth in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["seq"] for answer in answers} == {1}
    assert Counter("idempotent-replayed" in answer.headers for answer in answers) == {True: 99, False: 1}
    assert (await log(backend))["head"] == 1


async def test_one_key_with_two_bodies_at_once_is_one_event_and_mismatches(backend: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(publish(backend, nth % 2, **key) for nth in range(10)))
    assert Counter(answer.status_code for answer in answers) == {202: 5, 422: 5}
    assert (await log(backend))["head"] == 1


# --- retention -------------------------------------------------------------------------------------------------------


@pytest.fixture
def keeping(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"room_retention": {"*": Kept(), "shop:*": Kept(events=10), "blog:*": Kept(age_s=60)}}
    )


async def test_old_events_go_by_count_and_a_number_before_them_is_a_reset(
    keeping: Settings, api_key: str, worker: Resources
) -> None:
    async with running_api(keeping) as client:
        client.headers["authorization"] = f"Bearer {api_key}"
        for nth in range(30):
            await publish(client, nth)
            await publish(client, nth, "tasks:board:1")
        trim_until_done(worker)
        page = await log(client, since=20)
        assert (page["reset"], page["from"], order(page)) == (False, 21, list(range(20, 30)))
        assert (await log(client, since=19))["reset"]
        assert (await log(client))["reset"]
        assert (await log(client, "tasks:board:1"))["to"] == 30  # another beginning, another rule
        await publish(client, 30)
        page = await log(client, since=20)
        assert order(page) == list(range(20, 31))  # a little more than it keeps stays until it is worth a visit


async def test_a_busy_room_remembers_a_key_for_as_long_as_somebody_may_ask_again(
    keeping: Settings, api_key: str, worker: Resources, connection: Connection
) -> None:
    key = {"idempotency-key": "once"}
    event = {"event": "order.updated", "data": {}}
    async with running_api(keeping) as client:
        client.headers["authorization"] = f"Bearer {api_key}"
        first = await client.post(f"/v1/rooms/{ROOM}/events", json=event, headers=key)
        for nth in range(30):
            await publish(client, nth)
        trim_until_done(worker)
        again = await client.post(f"/v1/rooms/{ROOM}/events", json=event, headers=key)
        assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
        connection.execute("UPDATE room_event SET at = at - interval '11 minutes'")
        await publish(client, 30)
        trim_until_done(worker)
        assert (await log(client))["reset"]
        another = await client.post(f"/v1/rooms/{ROOM}/events", json=event, headers=key)
        assert another.json()["seq"] == 33


async def test_old_events_go_by_age_and_numbers_go_on(
    keeping: Settings, api_key: str, worker: Resources, connection: Connection
) -> None:
    async with running_api(keeping) as client:
        client.headers["authorization"] = f"Bearer {api_key}"
        for nth in range(3):
            await publish(client, nth, "blog:post:1")
        trim_until_done(worker)
        assert order(await log(client, "blog:post:1")) == [0, 1, 2]
        past = "SET {} = {} - interval '61 s'"
        connection.execute(f"UPDATE room_event {past.format('at', 'at')} WHERE seq <= 2")
        connection.execute(f"UPDATE room {past.format('trim_at', 'trim_at')}")
        trim_until_done(worker)
        page = await log(client, "blog:post:1", since=2)
        assert (page["reset"], order(page)) == (False, [2])
        assert (await log(client, "blog:post:1", since=1))["reset"]
        connection.execute(f"UPDATE room_event {past.format('at', 'at')}")
        connection.execute(f"UPDATE room {past.format('trim_at', 'trim_at')}")
        trim_until_done(worker)
        assert connection.execute("SELECT last_seq, floor_seq, trim_at FROM room").fetchall() == [
            {"last_seq": 3, "floor_seq": 3, "trim_at": None}
        ]
        assert (await publish(client, 3, "blog:post:1")).json()["seq"] == 4
        assert order(await log(client, "blog:post:1", since=3)) == [3]


async def test_much_is_trimmed_in_small_steps(
    keeping: Settings, api_key: str, worker: Resources, connection: Connection
) -> None:
    async with running_api(keeping) as client:
        client.headers["authorization"] = f"Bearer {api_key}"
        await publish(client)
        connection.execute(
            "INSERT INTO room_event (room_id, seq, event, data) "
            "SELECT id, g, 'x', '{}' FROM room, generate_series(2, 5000) AS g"
        )
        connection.execute("UPDATE room SET last_seq = 5000")
        await publish(client, 1)
        trim_until_done(worker)
    (row,) = connection.execute("SELECT count(*) AS left, min(seq) AS first FROM room_event").fetchall()
    assert row == {"left": 10, "first": 4992}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ["a" * 129, "shop:%0Aorder", "shop:%00", "shop order", "shop:*", "замовлення"])
async def test_refuses_a_room_whose_name_is_none(room: str, backend: httpx.AsyncClient) -> None:
    for response in (await publish(backend, room=room), await backend.get(f"/v1/rooms/{room}/log")):
        body = problem(response)
        assert (body["status"], body["code"], body["errors"][0]["pointer"]) == (422, "validation_failed", "/room")


async def test_the_longest_name_is_a_name(backend: httpx.AsyncClient) -> None:
    assert (await publish(backend, room="a" * 128)).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"data": {}}, "/event"),
        (event(event=""), "/event"),
        (event(event="x" * 129), "/event"),
        (event(event="order updated"), "/event"),
        (event(data=[1]), "/data"),
        (event(data={"x": "y" * 17_000}), "/data"),
        (event(data={"x": "\x00"}), "/data"),
        (event(colour="red"), "/colour"),
    ],
)
async def test_refuses_an_event_and_writes_nothing(
    body: dict[str, Any], pointer: str, backend: httpx.AsyncClient
) -> None:
    answer = problem(await backend.post(f"/v1/rooms/{ROOM}/events", json=body))
    assert (answer["status"], answer["errors"][0]["pointer"]) == (422, pointer)
    assert (await log(backend))["head"] == 0


async def test_a_key_needs_the_scope_and_the_domain(backend: httpx.AsyncClient, database_url: str) -> None:
    _, reader = create_key(database_url, tenant="default", scopes=["notifications:write"], name="reader")
    _, blog = create_key(database_url, tenant="default", scopes=["rooms:publish"], name="blog", domains=["blog"])
    for key in (reader, blog):
        backend.headers["authorization"] = f"Bearer {key}"
        assert problem(await publish(backend))["code"] == "forbidden"
        assert problem(await backend.get(f"/v1/rooms/{ROOM}/log"))["code"] == "forbidden"
    assert (await publish(backend, room="blog:post:1")).status_code == 202
