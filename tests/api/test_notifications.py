"""What backends call: accepted means committed, equal keys make one notification, bad input is explained."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from models.contracts import Accepted, BulkAnswer, NotificationOut, Problem
from models.database import Database
from models.errors import UnavailableError
from models.keys import create_key
from models.queries import ingest as ingest_sql
from models.states import Priority
from tests.conftest import in_a_while, notification, running_api
from workers.dispatch import dispatch_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from models.database import Connection
    from models.settings import Settings

ONE = "/v1/notifications"
BULK = "/v1/notifications/bulk"
JSON = {"content-type": "application/json"}


def stored(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute(
        "SELECT n.id::text AS id, title, o.priority FROM notification n JOIN outbox o ON o.notification_id = n.id "
        "ORDER BY o.position"
    ).fetchall()


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    Problem.model_validate(body)
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    return body


async def test_accepted_means_committed(backend: httpx.AsyncClient, connection: Connection) -> None:
    response = await backend.post(ONE, json=notification(priority="high"))
    assert response.status_code == 202
    answer = Accepted.model_validate_json(response.content)
    assert answer.status == "accepted"
    (row,) = stored(connection)
    assert (row["id"], row["priority"]) == (str(answer.id), Priority.HIGH.rank)


async def test_a_full_notification_is_stored_as_it_was_said(backend: httpx.AsyncClient, connection: Connection) -> None:
    said = notification(
        priority="critical",
        body="It arrives on Friday. 📦",
        data={"order_id": 42, "nested": {"list": [1, 2.5, None, True, "\u2028"]}},
        action_url="/orders/42",
        actor={"id": "shop", "name": "The Shop", "avatar_url": "https://shop.example/logo.png"},
        collapse_key="order:42",
        expires_at="2099-01-01T00:00:00+02:00",
    )
    created = (await backend.post(ONE, json=said)).json()
    response = await backend.get(f"{ONE}/{created['id']}")
    seen = response.json()
    NotificationOut.model_validate(seen)
    for name in ("type", "priority", "title", "body", "data", "action_url", "actor", "collapse_key", "to"):
        assert seen[name] == said[name]
    assert (seen["domain"], seen["status"], seen["expires_at"]) == ("shop", "accepted", "2098-12-31T22:00:00Z")

    dispatch_batch(connection, Priority.CRITICAL, limit=10, attempts=5)
    connection.execute("UPDATE delivery SET seen_at = now()")
    connection.execute("UPDATE inbox SET acked_seq = 1")
    seen = (await backend.get(f"{ONE}/{created['id']}")).json()
    assert seen["status"] == "dispatched"
    assert seen["counts"] == {"recipients": 1, "suppressed": 0, "acked": 1, "seen": 1, "read": 0}
    assert [event["event"] for event in seen["timeline"]] == ["accepted", "dispatched", "seen"]


async def test_deliver_at_schedules(backend: httpx.AsyncClient, connection: Connection) -> None:
    response = await backend.post(ONE, json=notification(deliver_at=in_a_while()))
    assert response.json()["status"] == "scheduled"
    seen = (await backend.get(f"{ONE}/{response.json()['id']}")).json()
    assert seen["status"] == "scheduled"
    assert [event["event"] for event in seen["timeline"]] == ["accepted", "scheduled"]
    assert dispatch_batch(connection, Priority.NORMAL, limit=10, attempts=5).claimed == 0


async def test_equal_users_get_one_delivery(backend: httpx.AsyncClient, connection: Connection) -> None:
    await backend.post(ONE, json={**notification(), "to": {"users": ["a", "b", "a"]}})
    dispatch_batch(connection, Priority.NORMAL, limit=10, attempts=5)
    assert connection.execute("SELECT count(*) AS n FROM delivery").fetchall() == [{"n": 2}]


async def test_a_key_and_body_again_answer_the_same(backend: httpx.AsyncClient, connection: Connection) -> None:
    headers = {"idempotency-key": "order 42"}
    first = await backend.post(ONE, json=notification(data={"a": 1, "b": 2}), headers=headers)
    reordered = orjson.dumps(dict(reversed(notification(data={"b": 2, "a": 1}).items())), option=orjson.OPT_INDENT_2)
    again = await backend.post(ONE, content=reordered, headers={**headers, **JSON})
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await backend.post(ONE, json=notification(title="Another"), headers=headers)
    assert (other.status_code, problem(other)["code"]) == (422, "idempotency_mismatch")
    assert len(stored(connection)) == 1


async def test_a_hundred_equal_posts_at_once_make_one_row(
    backend: httpx.AsyncClient, settings: Settings, api_key: str, connection: Connection
) -> None:
    async with running_api(settings) as other_process:
        other_process.headers["authorization"] = f"Bearer {api_key}"
        for client in (backend, other_process):
            await client.get("/v1/keys")  # connections are there before everybody comes at once
        headers = {"idempotency-key": "k"}
        answers = await asyncio.gather(
            *(
                client.post(ONE, json=notification(), headers=headers)
                for _ in range(50)
                for client in (backend, other_process)
            )
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(stored(connection)) == 1


@pytest.mark.parametrize("taken_again", [False, True])
async def test_a_key_that_becomes_free_in_that_moment_is_used_or_to_be_sent_again(
    taken_again: bool, settings: Settings, connection: Connection
) -> None:
    from api.ingest import Draft, Ingest, Outcome  # noqa: PLC0415
    from api.resolve import resolve  # noqa: PLC0415
    from api.resources import Resources  # noqa: PLC0415
    from models.contracts import NotificationIn  # noqa: PLC0415

    said = NotificationIn.model_validate(notification())
    earlier, later = (Draft.of("default", said, "once", resolve(said, None, datetime.now(UTC))) for _ in range(2))

    def take() -> None:
        connection.execute(ingest_sql.INSERT_IF_NEW, {"rows": orjson.dumps([{"ord": 0, **earlier.row}]).decode()})

    class Erasing(Database):
        """Whoever has the key is erased as soon as it was found to be in use, before anybody asks whose it is."""

        async def rows(self, statement: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
            found = await super().rows(statement, parameters)
            if statement == ingest_sql.INSERT_IF_NEW and not found:
                connection.execute("DELETE FROM outbox; DELETE FROM notification")
            elif taken_again and statement == ingest_sql.FIND_BY_IDEMPOTENCY_KEY and not stored(connection):
                take()
            return found

    take()
    database = Erasing(settings.database_url, size=2)
    await database.open()
    (result,) = await Ingest(database, Resources.build(settings).hints).accept([later])
    await database.close()
    if taken_again:
        assert isinstance(result, UnavailableError)
        assert "send it again" in result.detail
    else:
        assert isinstance(result, Outcome)
        assert (result.id, result.replayed) == (later.row["id"], False)


async def test_equal_keys_of_two_tenants_do_not_meet(backend: httpx.AsyncClient, database_url: str) -> None:
    _, other = create_key(database_url, tenant="acme", scopes=["admin"], name="other")
    headers = {"idempotency-key": "k"}
    mine = await backend.post(ONE, json=notification(), headers=headers)
    theirs = await backend.post(
        ONE, json=notification(title="x"), headers={**headers, "authorization": f"Bearer {other}"}
    )
    assert theirs.status_code == 202
    assert mine.json()["id"] != theirs.json()["id"]


async def test_bulk_keeps_order_and_answers_each_item(backend: httpx.AsyncClient, connection: Connection) -> None:
    items = [
        notification(title="1", idempotency_key="z"),
        notification(title=""),
        notification(title="2", idempotency_key="a"),
        notification(title="1", idempotency_key="z"),
        notification(title="other", idempotency_key="a"),
        notification(title="3", deliver_at=in_a_while()),
        "not an object",
    ]
    response = await backend.post(BULK, json={"notifications": items})
    answer = BulkAnswer.model_validate_json(response.content)
    assert [result.status for result in answer.results] == [
        "accepted",
        "rejected",
        "accepted",
        "replayed",
        "rejected",
        "scheduled",
        "rejected",
    ]
    assert (response.status_code, answer.accepted, answer.rejected) == (202, 4, 3)
    assert answer.results[3].id == answer.results[0].id
    first, second = answer.results[1].error, answer.results[4].error
    assert first is not None
    assert first.errors is not None
    assert first.errors[0].pointer == "/title"
    assert second is not None
    assert second.code == "idempotency_mismatch"
    assert [row["title"] for row in stored(connection)] == ["1", "2", "3"]


async def test_bulk_takes_ndjson(backend: httpx.AsyncClient, connection: Connection) -> None:
    lines = b"\n".join([orjson.dumps(notification(title="1")), b"{broken", b"", orjson.dumps(notification(title="2"))])
    response = await backend.post(BULK, content=lines, headers={"content-type": "application/x-ndjson; charset=utf-8"})
    answer = response.json()
    assert [result["status"] for result in answer["results"]] == ["accepted", "rejected", "accepted"]
    assert answer["results"][1]["error"]["code"] == "invalid_json"
    assert [row["title"] for row in stored(connection)] == ["1", "2"]


async def test_concurrent_requests_share_statements(backend: httpx.AsyncClient, connection: Connection) -> None:
    assert (await backend.get("/v1/keys")).status_code == 200  # connections are there before everybody comes at once
    answers = await asyncio.gather(*(backend.post(ONE, json=notification(title=str(n))) for n in range(200)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(stored(connection)) == 200
    distinct = connection.execute("SELECT count(DISTINCT created_at) AS n FROM notification").fetchone()
    assert distinct is not None
    assert distinct["n"] < 100, "every request had a commit of its own"


DEEP: Any = 1
for _ in range(100):
    DEEP = [DEEP]

BAD_NOTIFICATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"colour": "red"}, "/colour"),
    "a type of one segment": ({"type": "shop"}, "/type"),
    "a type of six segments": ({"type": "a.b.c.d.e.f"}, "/type"),
    "a type in capitals": ({"type": "Shop.order"}, "/type"),
    "a type that is a number": ({"type": 7}, "/type"),
    "an unknown priority": ({"priority": "urgent"}, "/priority"),
    "an empty title": ({"title": ""}, "/title"),
    "a huge title": ({"title": "x" * 201}, "/title"),
    "a huge body": ({"body": "x" * 4_001}, "/body"),
    "no title": ({"title": None}, "/title"),
    "data over 16 KiB": ({"data": {"x": "y" * 16_384}}, "/data"),
    "data nested 100 deep": ({"data": {"x": DEEP}}, "/data"),
    "data that is a list": ({"data": [1]}, "/data"),
    "a NUL in the title": ({"title": "a\x00b"}, "/title"),
    "a NUL in the body": ({"body": "\x00"}, "/body"),
    "a NUL deep in data": ({"data": {"a": [{"b": "\x00"}]}}, "/data"),
    "a NUL in a key of data": ({"data": {"a\x00": 1}}, "/data"),
    "1,001 users": ({"to": {"users": [f"u_{n}" for n in range(1_001)]}}, "/to/users"),
    "no users": ({"to": {"users": []}}, "/to/users"),
    "a user with a space": ({"to": {"user": "a b"}}, "/to/user"),
    "a user of 129 characters": ({"to": {"user": "x" * 129}}, "/to/user"),
    "two audiences": ({"to": {"user": "a", "users": ["b"]}}, "/to"),
    "no audience": ({"to": {}}, "/to"),
    "everyone: false": ({"to": {"everyone": False}}, "/to/everyone"),
    "an unknown audience": ({"to": {"group": "a"}}, "/to/group"),
    "a javascript: URL": ({"action_url": "javascript:alert(1)"}, "/action_url"),
    "a protocol-relative URL": ({"action_url": "//evil.example"}, "/action_url"),
    "a URL with a space": ({"action_url": "https://a.example/ b"}, "/action_url"),
    "an avatar that is data": ({"actor": {"id": "a", "avatar_url": "data:text/html,x"}}, "/actor/avatar_url"),
    "a time more than a year ahead": ({"deliver_at": in_a_while(367)}, "/deliver_at"),
    "a time without a zone": ({"deliver_at": "2030-01-01T00:00:00"}, "/deliver_at"),
    "a time before all time": ({"deliver_at": "0001-01-01T00:00:00+05:00"}, "/deliver_at"),
    "a time after all time": ({"expires_at": "9999-12-31T23:59:59-05:00"}, "/expires_at"),
    "a time that is a number": ({"deliver_at": 1_900_000_000}, "/deliver_at"),
    "an end before the beginning": (
        {"deliver_at": in_a_while(2), "expires_at": in_a_while(1)},
        "/expires_at",
    ),
}


@pytest.mark.parametrize("what", BAD_NOTIFICATIONS)
async def test_refuses(what: str, backend: httpx.AsyncClient, connection: Connection) -> None:
    changes, pointer = BAD_NOTIFICATIONS[what]
    response = await backend.post(ONE, json=notification(**changes))
    assert response.status_code == 422
    body = problem(response)
    assert body["code"] == "validation_failed"
    assert body["errors"][0]["pointer"] == pointer
    assert body["errors"][0]["detail"]
    assert stored(connection) == []


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"type": None}, "/type: Input should be a valid string"),
        ({"locale": "uk"}, "/locale: Is not known here; correct its name, or leave it out"),
        ({"to": "u_1"}, "/to: Must be a JSON object"),
        ({"to": {"users": []}}, "/to/users: List should have at least 1 item, not 0"),
        ({"to": {"everyone": False}}, "/to/everyone: Input should be true"),
        ({"to": {"topic": "t", "exclude_actor": True}}, "Must name an actor, as to.exclude_actor is true"),
        ({"deliver_at": "tomorrow"}, "/deliver_at: Must be an RFC 3339 time such as 2026-03-01T12:00:00Z"),
        (
            {"deliver_at": "2030-01-01T00:00:00"},
            "/deliver_at: Must say its offset from UTC, as 2026-03-01T12:00:00Z does",
        ),
        (
            {"deliver_at": in_a_while(2), "expires_at": in_a_while(1)},
            "/expires_at: Must be later than deliver_at",
        ),
    ],
)
async def test_says_what_is_wrong_in_words_of_json(
    changes: dict[str, Any], detail: str, backend: httpx.AsyncClient
) -> None:
    assert problem(await backend.post(ONE, json=notification(**changes)))["detail"] == detail


async def test_says_what_is_missing(backend: httpx.AsyncClient) -> None:
    body = {name: value for name, value in notification().items() if name != "type"}
    assert problem(await backend.post(ONE, json=body))["detail"] == "/type: Must be given"


BAD_BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "broken JSON": (b'{"to": ', "application/json", 400, "invalid_json"),
    "an empty body": (b"", "application/json", 400, "invalid_json"),
    "a lone surrogate": (rb'{"title": "\ud800"}', "application/json", 400, "invalid_json"),
    "bytes that are not UTF-8": (b'{"title": "\xff"}', "application/json", 400, "invalid_json"),
    "a number that is infinite": (b'{"data": {"n": 1e999}}', "application/json", 400, "invalid_json"),
    "NaN": (b'{"data": {"n": NaN}}', "application/json", 400, "invalid_json"),
    "a list": (b"[]", "application/json", 422, "validation_failed"),
    "a form": (b"to=u_1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    "a body over the limit": (b" " * 262_145, "application/json", 413, "payload_too_large"),
}


@pytest.mark.parametrize("what", BAD_BODIES)
async def test_refuses_a_body_that_is(what: str, backend: httpx.AsyncClient, connection: Connection) -> None:
    content, media_type, status, code = BAD_BODIES[what]
    response = await backend.post(ONE, content=content, headers={"content-type": media_type})
    assert (response.status_code, problem(response)["code"]) == (status, code)
    assert stored(connection) == []


async def test_refuses_a_streamed_body_as_soon_as_it_passes_the_limit(backend: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(10_000):
            yield b" " * 65_536

    response = await backend.post(ONE, content=endless(), headers=JSON)
    assert (response.status_code, problem(response)["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "body",
    [{"notifications": [{}] * 1_001}, {"notifications": []}, {"notifications": {}}, {"items": []}, [], "x"],
)
async def test_refuses_a_bulk_of_the_wrong_shape_or_size(body: Any, backend: httpx.AsyncClient) -> None:
    response = await backend.post(BULK, json=body)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_refuses_an_idempotency_key_that_is_empty_or_too_long(key: str, backend: httpx.AsyncClient) -> None:
    response = await backend.post(ONE, json=notification(), headers={"idempotency-key": key})
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("path", ["not-an-id", "01a2087e-b763-7141-900e-0cec3edbb1a2", "%00"])
async def test_a_notification_that_is_not_there_is_not_found(path: str, backend: httpx.AsyncClient) -> None:
    response = await backend.get(f"{ONE}/{path}")
    assert (response.status_code, problem(response)["code"]) == (404, "not_found")


async def test_another_tenants_notification_is_not_found(backend: httpx.AsyncClient, database_url: str) -> None:
    mine = (await backend.post(ONE, json=notification())).json()["id"]
    _, other = create_key(database_url, tenant="acme", scopes=["admin"], name="other")
    response = await backend.get(f"{ONE}/{mine}", headers={"authorization": f"Bearer {other}"})
    assert (response.status_code, problem(response)["code"]) == (404, "not_found")


async def test_one_value_that_postgres_refuses_does_not_fail_its_neighbours(
    settings: Settings, connection: Connection
) -> None:
    from api.ingest import Draft, Ingest, Outcome  # noqa: PLC0415
    from api.resolve import resolve  # noqa: PLC0415
    from api.resources import Resources  # noqa: PLC0415
    from models.contracts import NotificationIn  # noqa: PLC0415

    resources = Resources.build(settings)
    await resources.database.open()
    ingest: Ingest = resources.ingest
    said = [NotificationIn.model_validate(notification(title=str(n))) for n in range(3)]
    drafts = [Draft.of("default", each, None, resolve(each, None, datetime.now(UTC))) for each in said]
    drafts[1].row["title"] = None
    results = await ingest.accept(drafts)
    await resources.database.close()
    assert [isinstance(result, Outcome) for result in results] == [True, False, True]
    assert [row["title"] for row in stored(connection)] == ["0", "2"]
