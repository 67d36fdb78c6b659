"""Cancelling is definite: each recipient either never gets it, loses it, or had read it, and the numbers say so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from models.contracts import CancelOut, NotificationOut
from models.database import connect
from models.keys import create_key
from models.parked import replay_parked
from models.queries import dispatch as dispatch_sql
from models.queries import recover as recover_sql
from models.states import Action, Priority
from tests.api.test_notifications import ONE, problem
from tests.conftest import as_user, in_a_while, nobody, notification, waits_for_a_lock
from tests.socket_server.conftest import eventually
from tests.workers.test_fan_out import TOPIC, finish, names, outbox, reached, step, subscribe
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources


async def send(backend: httpx.AsyncClient, to: dict[str, Any], **more: Any) -> str:
    response = await backend.post(ONE, json=notification(to=to, **more))
    assert response.status_code == 202, response.text
    key: str = response.json()["id"]
    return key


async def cancel(backend: httpx.AsyncClient, key: str) -> tuple[int, int, int]:
    """Cancelled, recalled, already read."""
    response = await backend.delete(f"{ONE}/{key}")
    assert response.status_code == 200, response.text
    done = CancelOut.model_validate_json(response.content)
    assert done.status == "cancelled"
    return done.cancelled, done.recalled, done.already_read


async def look(backend: httpx.AsyncClient, key: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await backend.get(f"{ONE}/{key}")).json()
    NotificationOut.model_validate(answer)
    return answer


async def inbox(backend: httpx.AsyncClient, user: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await backend.get("/v1/inbox", headers=as_user(user))).json()
    return answer


async def act(backend: httpx.AsyncClient, user: str, action: Action) -> None:
    response = await backend.post("/v1/inbox/actions", json={"action": str(action), "seqs": [1]}, headers=as_user(user))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("more", "events"), [({}, []), ({"deliver_at": in_a_while()}, ["scheduled"])])
async def test_what_nobody_has_yet_never_arrives(
    more: dict[str, Any], events: list[str], backend: httpx.AsyncClient, connection: Connection
) -> None:
    key = await send(backend, {"users": ["a", "b"]}, **more)
    assert await cancel(backend, key) == (2, 0, 0)
    assert (outbox(connection), finish(connection)) == (0, [])
    seen = await look(backend, key)
    assert (seen["status"], seen["counts"]["recipients"]) == ("cancelled", 0)
    assert [event["event"] for event in seen["timeline"]] == ["accepted", *events, "cancelled"]


async def test_who_has_read_it_keeps_it_and_the_others_lose_it(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    key = await send(backend, {"users": ["reads", "looks", "deletes", "archives"]})
    finish(connection)
    await act(backend, "reads", Action.READ)
    await act(backend, "looks", Action.SEEN)
    await act(backend, "deletes", Action.DELETE)
    await act(backend, "archives", Action.ARCHIVE)
    assert await cancel(backend, key) == (0, 2, 2)
    assert [len((await inbox(backend, user))["items"]) for user in ("reads", "looks", "archives")] == [1, 0, 0]
    assert (await inbox(backend, "looks"))["counts"] == {"unread": 0, "unseen": 0}
    log = (await backend.get("/v1/inbox/log?since=0", headers=as_user("looks"))).json()
    assert [(entry["action"], entry["seqs"]) for entry in log["entries"]] == [("seen", [1]), ("delete", [1])]
    assert (await look(backend, key))["counts"]["recipients"] == 4


async def test_cancelling_twice_answers_the_same(backend: httpx.AsyncClient, connection: Connection) -> None:
    key = await send(backend, {"users": ["a", "b"]})
    finish(connection)
    await act(backend, "a", Action.READ)
    assert await cancel(backend, key) == (0, 1, 1)
    await act(backend, "a", Action.DELETE)
    assert await cancel(backend, key) == (0, 1, 1)
    rows = connection.execute("SELECT event FROM notification_event").fetchall()
    assert rows == [{"event": "cancelled"}]


async def test_many_at_once_agree(backend: httpx.AsyncClient, connection: Connection) -> None:
    key = await send(backend, {"users": names(20)})
    finish(connection)
    assert set(await asyncio.gather(*(cancel(backend, key) for _ in range(10)))) == {(0, 20, 0)}
    assert connection.execute("SELECT DISTINCT last_seq FROM inbox").fetchall() == [{"last_seq": 2}]


async def half_way(backend: httpx.AsyncClient, connection: Connection, to: dict[str, Any]) -> str:
    """Of 25, ten have it, one has read it, and one of the others left it out."""
    subscribe(connection, names(25))
    for user in names(25):
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('default', %s)", [user])
    key = await send(backend, {**to, "exclude_actor": True}, actor={"id": "u_020"})
    step(connection)
    await act(backend, "u_003", Action.READ)
    return key


@pytest.mark.parametrize("to", [{"topic": TOPIC}, {"everyone": True}])
async def test_half_way_through_a_broadcast_the_rest_never_get_it(
    to: dict[str, Any], backend: httpx.AsyncClient, connection: Connection
) -> None:
    key = await half_way(backend, connection, to)
    subscribe(connection, ["u_019b"])  # after it was due: not for them, and so not cancelled
    assert await cancel(backend, key) == (14, 9, 1)
    assert finish(connection) == []
    assert len(reached(connection, key)) == 10
    (left,) = connection.execute("SELECT count(*) AS n FROM delivery WHERE deleted_at IS NULL").fetchall()
    assert left["n"] == 1


async def test_a_scheduled_broadcast_is_cancelled_for_its_subscribers_of_now(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    subscribe(connection, names(5))
    key = await send(backend, {"topic": TOPIC}, deliver_at=in_a_while())
    assert await cancel(backend, key) == (5, 0, 0)
    assert outbox(connection) == 0


async def test_what_is_parked_is_cancelled(backend: httpx.AsyncClient, connection: Connection) -> None:
    key = await send(backend, {"user": "refused"})
    connection.execute("ALTER TABLE inbox ADD CONSTRAINT refused CHECK (user_id <> 'refused')")
    for _ in range(2):
        connection.execute("UPDATE outbox SET due_at = now()")
        step(connection)
    assert connection.execute("SELECT count(*) AS n FROM parked").fetchall() == [{"n": 1}]
    assert await cancel(backend, key) == (1, 0, 0)
    assert connection.execute("SELECT count(*) AS n FROM parked").fetchall() == [{"n": 0}]


@pytest.mark.parametrize("put_back", [False, True])
async def test_what_is_parked_or_put_back_in_that_moment_is_found(
    put_back: bool, backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    key = await send(backend, {"user": "a"})
    (row,) = connection.execute("SELECT position FROM outbox").fetchall()
    if put_back:
        connection.execute(dispatch_sql.PARK, {"position": row["position"], "reason": "x"})
    with connect(database_url) as other:
        with other.transaction():
            if put_back:
                other.execute(recover_sql.REPLAY_PARKED, {"all": True, "ids": []})
            else:
                other.execute(dispatch_sql.PARK, {"position": row["position"], "reason": "x"})
            cancelling = asyncio.create_task(cancel(backend, key))
            await eventually(lambda: waits_for_a_lock(connection))
        assert await cancelling == (1, 0, 0)
    assert (outbox(connection), connection.execute("SELECT 1 FROM parked").fetchall()) == (0, [])


async def test_what_was_cancelled_is_not_put_back(
    backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    key = await send(backend, {"user": "a"})
    assert await cancel(backend, key) == (1, 0, 0)
    connection.execute(
        "INSERT INTO parked (notification_id, priority, attempts, reason) VALUES (%s, 2, 1, 'late')", [key]
    )
    assert replay_parked(database_url, None) == 0
    assert outbox(connection) == 0


async def test_what_has_expired_has_nothing_left_to_cancel(backend: httpx.AsyncClient, connection: Connection) -> None:
    key = await send(backend, {"user": "a"}, expires_at="2099-01-01T00:00:00Z")
    connection.execute("UPDATE notification SET expires_at = now()")
    finish(connection)
    assert await cancel(backend, key) == (0, 0, 0)


async def test_from_many_inboxes_it_leaves_by_the_outbox(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    subscribe(connection, [f"u_{nth:04}" for nth in range(2_500)])
    key = await send(backend, {"topic": TOPIC})
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    connection.execute(
        "UPDATE delivery SET read_at = now(), seen_at = now() WHERE inbox_id IN "
        "(SELECT id FROM inbox ORDER BY user_id LIMIT 100)"
    )
    connection.execute("UPDATE inbox SET unread = 0, unseen = 0 WHERE user_id < 'u_0100'")
    assert await cancel(backend, key) == (0, 2_400, 100)
    assert await cancel(backend, key) == (0, 2_400, 100)
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    (row,) = connection.execute(
        "SELECT count(*) FILTER (WHERE deleted_at IS NULL) AS kept, count(*) AS n FROM delivery"
    ).fetchall()
    assert (row["kept"], row["n"], outbox(connection)) == (100, 2_500, 0)
    assert connection.execute("SELECT DISTINCT unread, unseen FROM inbox").fetchall() == [{"unread": 0, "unseen": 0}]
    assert (await look(backend, key))["status"] == "cancelled"


@pytest.mark.parametrize("key", ["nonsense", "01a21f1e-28d4-7230-84d5-4cc40841fb14"])
async def test_what_is_not_there_cannot_be_cancelled(key: str, backend: httpx.AsyncClient) -> None:
    assert problem(await backend.delete(f"{ONE}/{key}"))["code"] == "not_found"


async def test_another_tenants_and_another_domains_are_out_of_reach(
    backend: httpx.AsyncClient, connection: Connection, database_url: str
) -> None:
    key = await send(backend, {"user": "a"})
    connection.execute("INSERT INTO tenant (id) VALUES ('other')")
    strangers = create_key(database_url, tenant="other", scopes=["admin"], name="x")[1]
    blogs = create_key(database_url, tenant="default", scopes=["notifications:write"], name="x", domains=["blog"])[1]
    readers = create_key(database_url, tenant="default", scopes=["notifications:read"], name="x")[1]
    for other, status in ((strangers, 404), (blogs, 403), (readers, 403)):
        response = await backend.delete(f"{ONE}/{key}", headers={"authorization": f"Bearer {other}"})
        assert problem(response)["status"] == status
    assert outbox(connection) == 1
    finish(connection)
    assert len((await inbox(backend, "a"))["items"]) == 1


async def test_each_recipient_either_gets_it_or_never_does(
    backend: httpx.AsyncClient, connection: Connection, settings: Settings
) -> None:
    """The race: dispatchers work while everything is cancelled."""
    subscribe(connection, names(40))
    to = [{"user": "u_000"}, {"users": names(10)}, {"topic": TOPIC}]
    keys = [await send(backend, to[nth % 3]) for nth in range(30)]
    stop = asyncio.Event()

    def dispatch() -> None:
        with connect(settings.database_url) as mine:
            while not stop.is_set():
                dispatch_batch(mine, Priority.NORMAL, limit=2, attempts=5)

    dispatching = [asyncio.create_task(asyncio.to_thread(dispatch)) for _ in range(2)]
    latest_first = keys[::-1]
    numbers = await asyncio.gather(*(cancel(backend, key) for key in latest_first))
    answers = dict(zip(latest_first, numbers, strict=True))
    stop.set()
    await asyncio.gather(*dispatching)
    finish(connection)
    meant = [1, 10, 40]
    for nth, key in enumerate(keys):
        cancelled, recalled, already_read = answers[key]
        delivered = len(reached(connection, key))
        assert (cancelled + delivered, recalled, already_read) == (meant[nth % 3], delivered, 0), key
    for box in connection.execute("SELECT unread, unseen FROM inbox").fetchall():
        assert box == {"unread": 0, "unseen": 0}
    assert outbox(connection) == 0
