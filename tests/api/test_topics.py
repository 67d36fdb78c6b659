"""Topics: who is told what is sent to them, and what a broadcast looks like to its sender."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from models.contracts import NotificationOut, SubscribersOut, SubscribersPage
from models.fields import MAX_LINE_BYTES
from models.keys import create_key
from models.states import Priority
from tests.api.test_notifications import problem
from tests.api.test_users import bearing
from tests.conftest import nobody, notification
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources

TOPIC = "blog:post:7"
URL = f"/v1/topics/{TOPIC}/subscribers"
NDJSON = {"content-type": "application/x-ndjson"}


async def subscribed(backend: httpx.AsyncClient, url: str = URL) -> list[str]:
    """All subscribers, page by page."""
    users: list[str] = []
    after: str | None = ""
    while after is not None:
        response = await backend.get(url, params={"after": after, "limit": 7})
        page = SubscribersPage.model_validate(response.json())
        assert page.topic == url.split("/")[3]
        assert len(page.users) <= 7
        users += page.users
        after = page.next_after
    return users


async def changed(backend: httpx.AsyncClient, users: list[str], *, remove: bool = False) -> int:
    body = {"users": users}
    response = await (backend.post(f"{URL}/remove", json=body) if remove else backend.put(URL, json=body))
    assert response.status_code == 200, response.text
    return SubscribersOut.model_validate(response.json()).changed


# --- subscribers -----------------------------------------------------------------------------------------------------


async def test_users_are_subscribed_listed_by_name_and_unsubscribed(backend: httpx.AsyncClient) -> None:
    users = [f"u_{nth:02}" for nth in range(20)]
    assert await subscribed(backend) == []
    assert await changed(backend, users[::-1]) == 20
    assert await changed(backend, [*users[:5], "u_99"]) == 1
    assert await subscribed(backend) == [*users, "u_99"]
    assert await changed(backend, [*users[:5], "nobody"], remove=True) == 5
    assert await changed(backend, users[:5], remove=True) == 0
    assert await subscribed(backend) == [*users[5:], "u_99"]
    assert await subscribed(backend, "/v1/topics/blog:post:8/subscribers") == []


async def test_the_same_users_at_once_are_subscribed_once(backend: httpx.AsyncClient) -> None:
    users = [f"u_{nth:03}" for nth in range(200)]
    results = await asyncio.gather(*(changed(backend, users if nth % 2 else users[::-1]) for nth in range(8)))
    assert sum(results) == 200
    assert await subscribed(backend) == users


async def test_an_import_takes_any_number_of_lines_and_names_those_that_are_wrong(backend: httpx.AsyncClient) -> None:
    lines = [b'{"user": "u_%05d"}' % nth for nth in range(12_000)]
    lines[5], lines[7_000], lines[9_000] = b"noise", b'{"user": "a b"}', b""
    response = await backend.put(URL, content=b"\n".join(lines), headers=NDJSON)
    answer = SubscribersOut.model_validate(response.json())
    assert (answer.changed, answer.rejected) == (11_997, 2)
    assert [error.line for error in answer.errors] == [6, 7_001]
    assert "The line is not valid JSON" in answer.errors[0].detail
    assert "1 to 128" in answer.errors[1].detail
    again = await backend.put(URL, content=b"\n".join(lines) + b"\n", headers=NDJSON)
    assert again.json()["changed"] == 0
    page = (await backend.get(URL, params={"after": "u_11990", "limit": 1000})).json()
    assert page["users"] == [f"u_{nth:05}" for nth in range(11_991, 12_000)]


async def test_an_import_without_line_breaks_is_refused_before_it_is_held(backend: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        yield b'{"user": "u_1"}\n'
        for _ in range(100):
            yield b"x" * MAX_LINE_BYTES

    response = await backend.put(URL, content=endless(), headers=NDJSON)
    assert (response.status_code, problem(response)["code"]) == (413, "payload_too_large")
    assert "Line 2" in response.json()["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"users": []}, {"users": ["a b"]}, {"users": "u_1"}, {"users": ["x"] * 1_001}, {"user": "u_1"}, []]
)
async def test_refuses_users_who_are_none(body: Any, backend: httpx.AsyncClient) -> None:
    for response in (await backend.put(URL, json=body), await backend.post(f"{URL}/remove", json=body)):
        assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")
    assert await subscribed(backend) == []


@pytest.mark.parametrize("topic", ["a b", "a%7F", "x" * 129, "ж"])
async def test_refuses_a_topic_that_is_none(topic: str, backend: httpx.AsyncClient) -> None:
    response = await backend.put(f"/v1/topics/{topic}/subscribers", json={"users": ["u_1"]})
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("url", [URL, "/v1/types", "/v1/tenants"])
async def test_refuses_to_go_on_after_what_no_name_can_have(url: str, backend: httpx.AsyncClient) -> None:
    response = await backend.get(url, params={"after": "a\x00"})
    assert (response.status_code, problem(response)["errors"][0]["pointer"]) == (422, "?after")


async def test_keys_need_the_scope_and_the_domain_and_see_their_own_tenant(
    backend: httpx.AsyncClient, database_url: str
) -> None:
    await changed(backend, ["u_1"])
    for scope, domains, tenant, status in (
        ("topics:write", [], "default", 200),
        ("topics:write", ["blog"], "default", 200),
        ("topics:write", ["shop"], "default", 403),
        ("rooms:publish", [], "default", 403),
    ):
        _, key = create_key(database_url, tenant=tenant, scopes=[scope], domains=domains, name="x")
        for method, url, body in (
            ("GET", URL, None),
            ("PUT", URL, {"users": ["u_1"]}),
            ("POST", f"{URL}/remove", {"users": ["u_2"]}),
        ):
            response = await backend.request(method, url, json=body, headers=bearing(key))
            assert response.status_code == status, (scope, domains, method)
    _, other = create_key(database_url, tenant="other", scopes=["topics:write"], name="other")
    assert (await backend.get(URL, headers=bearing(other))).json()["users"] == []
    assert (await backend.post(f"{URL}/remove", json={"users": ["u_1"]}, headers=bearing(other))).json()["changed"] == 0
    assert await subscribed(backend) == ["u_1"]


# --- broadcasts ------------------------------------------------------------------------------------------------------


async def look(backend: httpx.AsyncClient, notification_id: str) -> dict[str, Any]:
    response = await backend.get(f"/v1/notifications/{notification_id}")
    NotificationOut.model_validate_json(response.content)
    found: dict[str, Any] = orjson.loads(response.content)
    return found


async def test_a_senders_view_says_how_far_it_is(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await changed(backend, [f"u_{nth:02}" for nth in range(25)])
    sent = await backend.post("/v1/notifications", json=notification(to={"topic": TOPIC}))
    assert sent.status_code == 202
    key = sent.json()["id"]
    assert (await look(backend, key))["status"] == "accepted"
    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=5)
    half = await look(backend, key)
    assert (half["status"], half["counts"]["recipients"], half["to"]) == ("dispatching", 10, {"topic": TOPIC})
    assert half["timeline"][-1]["detail"] == "written to 10 inboxes so far"
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    whole = await look(backend, key)
    assert (whole["status"], whole["counts"]["recipients"]) == ("dispatched", 25)
    assert [event["event"] for event in whole["timeline"]] == ["accepted", "dispatching", "dispatched", "offline"]


async def test_a_topic_without_subscribers_is_dispatched_to_nobody(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    sent = await backend.post("/v1/notifications", json=notification(to={"topic": "nobody:listens"}))
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    found = await look(backend, sent.json()["id"])
    assert (found["status"], found["counts"]["recipients"]) == ("dispatched", 0)
    assert found["timeline"][-1]["detail"] == "written to 0 inboxes"


async def test_everyone_but_the_actor(backend: httpx.AsyncClient, worker: Resources) -> None:
    await backend.post("/v1/notifications", json=notification(to={"users": ["u_1", "u_2", "u_3"]}))
    body = notification(to={"everyone": True, "exclude_actor": True}, actor={"id": "u_2"})
    sent = await backend.post("/v1/notifications", json=body, headers={"idempotency-key": "once"})
    again = await backend.post("/v1/notifications", json=body, headers={"idempotency-key": "once"})
    assert (again.json(), again.headers["idempotent-replayed"]) == (sent.json(), "true")
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    assert (await look(backend, sent.json()["id"]))["counts"]["recipients"] == 2


@pytest.mark.parametrize(
    ("to", "actor", "code"),
    [
        ({"topic": "a b"}, None, "string_pattern_mismatch"),
        ({"everyone": False}, None, "literal_error"),
        ({"topic": "t", "everyone": True}, None, "one_audience"),
        ({"topic": "t", "exclude_actor": True}, None, "no_actor"),
        ({"user": "u", "exclude_actor": True}, {"id": "u"}, "exclude_actor"),
    ],
)
async def test_refuses_an_audience_that_makes_no_sense(
    to: dict[str, Any], actor: Any, code: str, backend: httpx.AsyncClient
) -> None:
    response = await backend.post("/v1/notifications", json=notification(to=to, actor=actor))
    assert response.status_code == 422
    assert code in {wrong["code"] for wrong in problem(response)["errors"]}
