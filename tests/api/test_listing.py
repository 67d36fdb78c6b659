"""The list of a tenant's notifications: newest first, each once, whatever it is filtered by."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest

from models.contracts import NotificationsPage
from models.cursors import Cursor
from models.keys import create_key
from models.queries import listing as sql
from models.queries.withdraw import queue_expired
from models.states import NotificationStatus, Priority
from tests.api.test_notifications import problem
from tests.api.test_topics import changed, look
from tests.api.test_users import bearing
from tests.conftest import in_a_while, nobody, notification, waits_for_a_lock
from tests.socket_server.conftest import eventually
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources

URL = "/v1/notifications"


async def send(backend: httpx.AsyncClient, **changes: Any) -> str:
    response = await backend.post(URL, json=notification(**changes))
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def pages(backend: httpx.AsyncClient, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages, from the newest on."""
    found = []
    following: dict[str, Any] = {}
    while True:
        response = await backend.get(URL, params={**query, **following})
        assert response.status_code == 200, response.text
        page = NotificationsPage.model_validate_json(response.content)
        found.append(orjson.loads(response.content)["notifications"])
        if page.next is None:
            return found
        following = {"next": page.next}


async def ids(backend: httpx.AsyncClient, **query: Any) -> list[str]:
    return [row["id"] for page in await pages(backend, **query) for row in page]


async def test_it_is_newest_first_and_each_once_on_pages(backend: httpx.AsyncClient) -> None:
    sent = [await send(backend) for _ in range(3)]
    bulk = await backend.post(f"{URL}/bulk", json={"notifications": [notification() for _ in range(20)]})
    sent += [result["id"] for result in bulk.json()["results"]]  # all of one moment
    assert await ids(backend) == sent[::-1]
    found = await pages(backend, limit=5)
    assert [len(page) for page in found] == [5, 5, 5, 5, 3]
    assert [row["id"] for page in found for row in page] == sent[::-1]
    assert await ids(backend, limit=23) == sent[::-1]


async def test_what_is_sent_meanwhile_moves_no_page(backend: httpx.AsyncClient) -> None:
    sent = [await send(backend) for _ in range(6)]
    first = (await backend.get(URL, params={"limit": 3})).json()
    await send(backend)
    second = (await backend.get(URL, params={"limit": 3, "next": first["next"]})).json()
    assert [row["id"] for row in first["notifications"] + second["notifications"]] == sent[::-1]
    assert second["next"] is None


async def test_each_says_what_was_said(backend: httpx.AsyncClient) -> None:
    said = notification(
        to={"users": ["u_1", "u_2"]},
        body="It arrives on Friday. 📦",
        data={"order_id": 42, "huge": 1e300},
        action_url="/orders/42",
        actor={"id": "shop", "name": "The Shop", "avatar_url": None},
        collapse_key="order:42",
        expires_at="2099-01-01T00:00:00Z",
        priority="high",
    )
    await backend.post(URL, json=said)
    ((row,),) = await pages(backend)
    assert {name: row[name] for name in said} == said
    assert (row["domain"], row["status"]) == ("shop", "accepted")


async def test_it_is_filtered_by_what_was_said_and_to_whom(backend: httpx.AsyncClient) -> None:
    shop = await send(backend, to={"user": "u_1"})
    paid = await send(backend, to={"users": ["u_2", "u_1"]}, type="shop.order.paid", priority="high")
    blog = await send(backend, to={"user": "u_2"}, type="blog.post.published", priority="low")
    topic = await send(backend, to={"topic": "u_1"}, type="blog.post.published")
    assert await ids(backend, type="shop.order.paid") == [paid]
    assert await ids(backend, domain="shop") == [paid, shop]
    assert await ids(backend, domain="blog", priority="low") == [blog]
    assert await ids(backend, to="u_1") == [paid, shop]
    assert await ids(backend, to="u_2") == [blog, paid]
    assert await ids(backend, to="u_1", type="blog.post.published") == []
    assert await ids(backend, domain="blog") == [topic, blog]


async def test_it_is_bounded_by_time(backend: httpx.AsyncClient, connection: Connection) -> None:
    sent = [await send(backend) for _ in range(4)]
    for nth, key in enumerate(sent):
        at = datetime(2026, 3, 1, nth, tzinfo=UTC)
        connection.execute("UPDATE notification SET created_at = %s WHERE id = %s", [at, key])
    assert await ids(backend, created_after="2026-03-01T01:00:00Z") == [sent[3], sent[2]]
    assert await ids(backend, created_before="2026-03-01T01:00:00Z") == [sent[0]]
    both = {"created_after": "2026-02-28T23:00:00Z", "created_before": "2026-03-01T04:00:00+01:00"}
    assert await ids(backend, **both, limit=1) == [sent[2], sent[1], sent[0]]


async def test_its_statuses_are_those_that_each_has_by_itself(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await changed(backend, [f"u_{nth:02}" for nth in range(25)])
    expected: dict[str, str] = {}
    expected[await send(backend, to={"users": ["u_1", "u_2"]})] = "dispatched"
    expected[await send(backend, expires_at="2026-01-01T00:00:00Z")] = "expired"
    parked = await send(backend)
    connection.execute("UPDATE notification SET audience = '{}' WHERE id = %s", [parked])
    expected[parked] = "dispatching"
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    expected[await send(backend, to={"topic": "blog:post:7"}, priority="low")] = "dispatching"
    dispatch_batch(connection, Priority.LOW, limit=1, attempts=5)
    expected[await send(backend, to={"topic": "blog:post:8"}, priority="high")] = "dispatched"
    dispatch_batch(connection, Priority.HIGH, limit=1, attempts=5)
    cancelled, withdrawn = await send(backend), await send(backend, expires_at=in_a_while())
    assert (await backend.delete(f"{URL}/{cancelled}")).status_code == 200
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    connection.execute("UPDATE expiry SET expires_at = now() WHERE notification_id = %s", [withdrawn])
    connection.execute(queue_expired(10))
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    expected |= {cancelled: "cancelled", withdrawn: "expired"}
    again = await send(backend)
    connection.execute("UPDATE outbox SET attempts = 1 WHERE notification_id = %s", [again])
    expected[again] = "dispatching"
    expected[await send(backend)] = "accepted"
    expected[await send(backend, deliver_at=in_a_while())] = "scheduled"
    assert {row["id"]: row["status"] for page in await pages(backend) for row in page} == expected
    for key, status in expected.items():
        assert (await look(backend, key))["status"] == status
    for status in NotificationStatus:
        assert await ids(backend, status=status, limit=1) == [
            key for key, its in reversed(expected.items()) if its == status
        ]


async def test_a_rare_kind_is_found_behind_many_others_bit_by_bit(
    backend: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = [await send(backend, type="blog.post.published")]
    for _ in range(3):
        items = [notification() for _ in range(30)]
        await backend.post(f"{URL}/bulk", json={"notifications": items})
        rare.append(await send(backend, type="blog.post.published"))
    look_at_two_rows_at_a_time(monkeypatch)
    found = await pages(backend, domain="blog", limit=2)
    assert [row["id"] for page in found for row in page] == rare[::-1]
    assert [] in found  # a page may be empty, and not the last


def look_at_two_rows_at_a_time(monkeypatch: pytest.MonkeyPatch, form: str = "{}") -> None:
    whole, window = sql.list_notifications, f"LIMIT {sql.WINDOW}"
    listing = lambda *given: form.format(whole(*given).replace(window, "LIMIT 2"))  # noqa: E731
    monkeypatch.setattr(sql, "list_notifications", listing)
    monkeypatch.setattr(sql, "END_OF_WINDOW", sql.END_OF_WINDOW.replace(f"OFFSET {sql.WINDOW - 1}", "OFFSET 1"))


async def test_what_is_removed_while_a_page_is_read_hides_nothing_behind_it(
    backend: httpx.AsyncClient, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("blog.post.published", "shop.order.shipped") * 3
    *sent, retired, newest = [await send(backend, type=kind) for kind in kinds[::-1]]
    held = "SELECT l.* FROM ({}) l WHERE (SELECT pg_advisory_xact_lock_shared(7)) IS NOT NULL"
    look_at_two_rows_at_a_time(monkeypatch, held)
    connection.execute("SELECT pg_advisory_lock(7)")  # the first two rows are listed, but their end is not looked for
    listing = asyncio.create_task(ids(backend, domain="blog"))
    await eventually(lambda: waits_for_a_lock(connection))
    connection.execute("DELETE FROM notification WHERE id = %s", [retired])
    connection.execute("SELECT pg_advisory_unlock(7)")
    assert await listing == [newest, sent[3], sent[1]]


async def test_a_key_for_some_domains_lists_those(backend: httpx.AsyncClient, database_url: str) -> None:
    shop, blog = await send(backend), await send(backend, type="blog.post.published")
    for scope, domains, tenant, seen in (
        ("notifications:read", [], "default", [blog, shop]),
        ("notifications:read", ["blog", "chat"], "default", [blog]),
        ("notifications:read", [], "other", []),
        ("notifications:write", [], "default", None),
    ):
        _, key = create_key(database_url, tenant=tenant, scopes=[scope], domains=domains, name="x")
        response = await backend.get(URL, headers=bearing(key))
        assert response.status_code == (403 if seen is None else 200)
        assert seen is None or [row["id"] for row in response.json()["notifications"]] == seen
        if domains:
            for wrong in ({"domain": "shop"}, {"type": "shop.order.shipped"}):
                refused = await backend.get(URL, params=wrong, headers=bearing(key))
                assert (refused.status_code, problem(refused)["code"]) == (403, "forbidden")
                assert "only for blog, chat" in refused.json()["detail"]


async def test_what_a_key_does_not_list_it_is_refused_by_id_too(backend: httpx.AsyncClient, database_url: str) -> None:
    shop, blog = await send(backend), await send(backend, type="blog.post.published")
    scopes = ["notifications:read", "notifications:write"]
    whose = bearing(create_key(database_url, tenant="default", scopes=scopes, domains=["blog"], name="x")[1])
    for key, status in ((blog, 200), (shop, 403)):
        for method, url in (
            ("GET", f"{URL}/{key}"),
            ("GET", f"/v1/users/u_1/explain?notification={key}"),
            ("DELETE", f"{URL}/{key}"),
        ):
            response = await backend.request(method, url, headers=whose)
            assert response.status_code == status, (method, url)
            assert status == 200 or "only for blog, not for shop" in problem(response)["detail"]
    assert (await look(backend, shop))["status"] == "accepted"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": 0}, "?limit"),
        ({"limit": 101}, "?limit"),
        ({"status": "lost"}, "?status"),
        ({"priority": "urgent"}, "?priority"),
        ({"type": "shop"}, "?type"),
        ({"to": "a b"}, "?to"),
        ({"created_after": "yesterday"}, "?created_after"),
        ({"created_before": "2026-03-01T00:00:00"}, "?created_before"),
        ({"next": "x"}, "?next"),
        ({"next": base64.urlsafe_b64encode(b"\xff" * 24).decode() + "="}, "?next"),
        ({"next": base64.urlsafe_b64encode(b"\x7f" * 24).decode()}, "?next"),
        ({"next": "x" * 65}, "?next"),
        ({"colour": "red"}, "?colour"),
    ],
)
async def test_refuses_the_query(query: dict[str, Any], pointer: str, backend: httpx.AsyncClient) -> None:
    response = await backend.get(URL, params=query)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")
    assert [wrong["pointer"] for wrong in response.json()["errors"]] == [pointer]


def test_a_cursor_is_read_as_it_was_written() -> None:
    place = Cursor(datetime(2026, 11, 23, 13, 0, 51, 939628, tzinfo=UTC), UUID(int=2**127 + 1))
    assert Cursor.read(place.written()) == place
    assert place.written().isascii()
