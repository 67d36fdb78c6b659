"""What a backend sees of one recipient: their inbox as they see it, and why they have a notification or not."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from models.contracts import ExplainOut, InboxPage
from models.keys import create_key
from models.queries.withdraw import queue_expired
from models.states import Priority
from tests.api.test_listing import send
from tests.api.test_notifications import problem
from tests.api.test_preferences import set_for
from tests.api.test_topics import TOPIC, changed
from tests.api.test_users import bearing
from tests.conftest import ack, as_user, in_a_while, nobody, notification, quiet_now
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources


async def dispatched(worker: Resources) -> None:
    for priority in Priority:
        await asyncio.to_thread(dispatch_until_idle, worker, priority, nobody)


async def why(backend: httpx.AsyncClient, key: str, user: str = "u_1") -> dict[str, Any]:
    response = await backend.get(f"/v1/users/{user}/explain", params={"notification": key})
    assert response.status_code == 200, response.text
    ExplainOut.model_validate_json(response.content)
    found: dict[str, Any] = orjson.loads(response.content)
    assert (found["user"], found["notification"]) == (user, key)
    return found


async def reason(backend: httpx.AsyncClient, key: str, user: str = "u_1") -> tuple[str, str]:
    found = await why(backend, key, user)
    return found["reason"], found["verdict"]


# --- the inbox -------------------------------------------------------------------------------------------------------


async def test_a_backend_sees_the_inbox_as_its_user_does(backend: httpx.AsyncClient, worker: Resources) -> None:
    for kind in ("shop.order.shipped", "blog.post.published", "shop.order.paid"):
        await send(backend, type=kind)
    await dispatched(worker)
    await backend.patch("/v1/inbox/1", json={"archived": True}, headers=as_user())
    for query in ({}, {"status": "all", "limit": 1}, {"domain": "blog"}, {"before": 3}, {"status": "archived"}):
        own = await backend.get("/v1/inbox", params=query, headers=as_user())
        theirs = await backend.get("/v1/users/u_1/inbox", params=query)
        assert (theirs.status_code, theirs.content) == (200, own.content)
        assert theirs.headers["etag"] == own.headers["etag"]
    known = {"if-none-match": own.headers["etag"]}
    assert (await backend.get("/v1/users/u_1/inbox", headers=known)).status_code == 304
    empty = InboxPage.model_validate((await backend.get("/v1/users/nobody/inbox")).json())
    assert (empty.items, empty.seq) == ([], 0)


async def test_a_key_for_some_domains_sees_and_counts_those(
    backend: httpx.AsyncClient, worker: Resources, database_url: str
) -> None:
    for kind in ("shop.order.shipped", "blog.post.published", "shop.order.paid"):
        await send(backend, type=kind)
    await dispatched(worker)
    await backend.patch("/v1/inbox/1", json={"seen": True}, headers=as_user())
    _, key = create_key(database_url, tenant="default", scopes=["notifications:read"], domains=["shop"], name="x")
    for _ in range(2):  # the second answer is the one that was kept
        page = InboxPage.model_validate((await backend.get("/v1/users/u_1/inbox", headers=bearing(key))).json())
        assert [item.seq for item in page.items] == [3, 1]
        assert (page.counts.unread, page.counts.unseen, page.seq) == (2, 1, 4)
        whole = InboxPage.model_validate((await backend.get("/v1/users/u_1/inbox")).json())
        assert ([item.seq for item in whole.items], whole.counts.unread) == ([3, 2, 1], 3)
    for wrong in ({"domain": "blog"}, {"type": "blog.post.published"}):
        refused = await backend.get("/v1/users/u_1/inbox", params=wrong, headers=bearing(key))
        assert (refused.status_code, problem(refused)["code"]) == (403, "forbidden")


async def test_the_scope_is_needed_and_the_tenant_is_the_keys(
    backend: httpx.AsyncClient, worker: Resources, database_url: str
) -> None:
    key_of_one = await send(backend)
    await dispatched(worker)
    explained = f"/v1/users/u_1/explain?notification={key_of_one}"
    for tenant, scope, statuses in (
        ("default", "notifications:read", (200, 200)),
        ("default", "users:write", (403, 403)),
        ("other", "notifications:read", (200, 404)),
    ):
        _, key = create_key(database_url, tenant=tenant, scopes=[scope], name="x")
        listed = await backend.get("/v1/users/u_1/inbox", headers=bearing(key))
        why_not = await backend.get(explained, headers=bearing(key))
        assert (listed.status_code, why_not.status_code) == statuses
        assert tenant == "default" or listed.json()["items"] == []
    _, key = create_key(database_url, tenant="default", scopes=["notifications:read"], domains=["blog"], name="x")
    assert (await backend.get(explained, headers=bearing(key))).status_code == 403


# --- why -------------------------------------------------------------------------------------------------------------


async def test_it_says_how_far_a_delivery_has_come(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    key = await send(backend, to={"users": ["u_2", "u_1"]})
    assert await reason(backend, key) == ("waiting", "Not yet: it is due, and waits to be dispatched.")
    await dispatched(worker)
    found = await why(backend, key)
    assert (found["reason"], found["seq"]) == ("delivered", 1)
    assert "no device of theirs has said yet that it holds it" in found["verdict"]
    ack(connection, u_1=1)
    assert "a device of theirs holds it" in (await why(backend, key))["verdict"]
    assert "no device" in (await why(backend, key, "u_2"))["verdict"]
    for patch, expected in (({"read": True}, "read"), ({"archived": True}, "archived")):
        await backend.patch("/v1/inbox/1", json=patch, headers=as_user())
        assert (await why(backend, key))["reason"] == expected
    await backend.delete("/v1/inbox/1", headers=as_user())
    found = await why(backend, key)
    assert found["reason"] == "deleted"
    assert found["verdict"].startswith("They had it, as number 1 of their inbox; it was deleted at ")
    assert [(event["event"], event["at"] is None) for event in found["timeline"]] == [
        ("accepted", False),
        ("dispatched", False),
        ("offline", False),
        ("acked", False),
        ("seen", False),
        ("read", False),
        ("archived", False),
        ("deleted", False),
    ]


async def test_it_names_the_rule_that_kept_it_away_and_what_did_not_ring(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    await set_for(backend, mutes={"domains": ["shop"]}, quiet_hours=quiet_now())
    shop, blog = await send(backend), await send(backend, type="blog.post.published")
    await dispatched(worker)
    assert await reason(backend, shop) == ("suppressed", "They do not have it: the user mutes the domain shop.")
    assert [event["event"] for event in (await why(backend, shop))["timeline"]] == ["accepted", "suppressed"]
    assert "silently because of their quiet hours" in (await why(backend, blog))["verdict"]


async def test_it_says_that_it_was_for_others(backend: httpx.AsyncClient, worker: Resources) -> None:
    named = await send(backend, to={"user": "u_2"})
    several = await send(backend, to={"users": ["u_2", "u_3"]})
    topic = await send(backend, to={"topic": TOPIC})
    everyone = await send(backend, to={"everyone": True, "exclude_actor": True}, actor={"id": "u_2"})
    for when in ("before", "after"):
        for key, because in (
            (named, "it is for others, by name"),
            (several, "it is for others, by name"),
            (topic, f"they are not subscribed to {TOPIC}"),
            (everyone, "it is for everyone with an inbox, and they have none"),
        ):
            assert await reason(backend, key) == ("not_in_audience", f"They do not have it: {because}."), when
        await dispatched(worker)
    because = "it leaves out its actor, who they are"
    assert await reason(backend, everyone, "u_2") == ("not_in_audience", f"They do not have it: {because}.")
    assert (await why(backend, everyone, "u_3"))["reason"] == "delivered"


async def test_it_says_that_they_came_too_late(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await changed(backend, ["u_0"])
    topic = await send(backend, to={"topic": TOPIC})
    await send(backend, to={"user": "u_0"})
    await dispatched(worker)
    everyone = await send(backend, to={"everyone": True})
    await dispatched(worker)
    await changed(backend, ["u_1"])
    await send(backend)
    await dispatched(worker)
    kind, verdict = await reason(backend, topic)
    assert kind == "too_late"
    assert f"they subscribed to {TOPIC} at " in verdict
    kind, verdict = await reason(backend, everyone)
    assert kind == "too_late"
    assert "they have an inbox since " in verdict


async def test_it_says_what_a_broadcast_waits_for(backend: httpx.AsyncClient, connection: Connection) -> None:
    users = [f"u_{nth:02}" for nth in range(25)]
    await changed(backend, users)
    key = await send(backend, to={"topic": TOPIC})
    dispatch_batch(connection, Priority.NORMAL, limit=1, attempts=5)
    assert (await why(backend, key, "u_05"))["reason"] == "delivered"
    assert await reason(backend, key, "u_20") == (
        "waiting",
        "Not yet: it is going out, user by user, and has not come to them.",
    )
    early = "UPDATE topic_subscription SET subscribed_at = '2020-01-01' WHERE user_id = 'u_055'"
    await changed(backend, ["u_055"])
    connection.execute(early)
    assert await reason(backend, key, "u_055") == (
        "too_late",
        "They do not have it: they were not in its audience when it was their turn.",
    )


async def test_it_says_why_not_yet_and_why_never(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    at = in_a_while()
    due = f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S} UTC"
    later = await send(backend, deliver_at=at)
    assert await reason(backend, later) == ("scheduled", f"Not yet: it is not due before {due}.")
    assert [event["event"] for event in (await why(backend, later))["timeline"]] == ["accepted", "scheduled"]
    again = await send(backend, priority="low", deliver_at=at)
    connection.execute("UPDATE outbox SET attempts = 2 WHERE notification_id = %s", [again])
    kind, verdict = await reason(backend, again)
    assert (kind, verdict) == (
        "waiting",
        f"Not yet: its dispatch failed 2 times, and is tried again at {due}.",
    )
    expired = await send(backend, expires_at="2026-01-01T00:00:00Z")
    await dispatched(worker)
    kind, verdict = await reason(backend, expired)
    assert kind == "expired"
    assert "was to be delivered before 2026-01-01" in verdict
    parked = await send(backend)
    (position,) = connection.execute("SELECT position FROM outbox WHERE notification_id = %s", [parked]).fetchall()
    connection.execute(
        "WITH gone AS (DELETE FROM outbox WHERE position = %s RETURNING notification_id) "
        "INSERT INTO parked (notification_id, priority, attempts, reason) SELECT notification_id, 2, 1, 'a secret' "
        "FROM gone",
        [position["position"]],
    )
    kind, verdict = await reason(backend, parked)
    assert kind == "parked"
    assert "secret" not in verdict
    connection.execute("DELETE FROM parked")
    assert (await why(backend, parked))["reason"] == "unknown"


async def test_it_says_what_was_cancelled_and_what_recalled(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    arrived = await send(backend)
    await dispatched(worker)
    deleted = await send(backend)
    await dispatched(worker)
    await backend.delete("/v1/inbox/2", headers=as_user())
    waiting = await send(backend)
    for key in (arrived, deleted, waiting):
        await backend.delete(f"/v1/notifications/{key}")
    assert (await reason(backend, arrived))[0] == "recalled"
    assert (await reason(backend, deleted))[0] == "deleted"
    assert (await reason(backend, waiting))[0] == "cancelled"


async def test_it_says_what_expired_and_what_was_replaced(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    ended = await send(backend, expires_at=in_a_while())
    replaced = await send(backend, collapse_key="k")
    await dispatched(worker)
    folded, newest = await send(backend, collapse_key="k"), await send(backend, collapse_key="k")
    await dispatched(worker)
    connection.execute("UPDATE notification SET expires_at = now() WHERE id = %s", [ended])
    connection.execute("UPDATE expiry SET expires_at = now()")
    connection.execute(queue_expired(10))
    await dispatched(worker)
    assert (await reason(backend, ended))[0] == "expired"
    assert (await reason(backend, replaced))[0] == "replaced"
    assert (await reason(backend, folded))[0] == "suppressed"
    assert (await reason(backend, newest))[0] == "delivered"


@pytest.mark.parametrize("key", ["0198a9c0-0000-7000-8000-000000000000", "nonsense", "%00"])
async def test_a_notification_that_is_not_there_is_not_found(key: str, backend: httpx.AsyncClient) -> None:
    response = await backend.get(f"/v1/users/u_1/explain?notification={key}")
    assert (response.status_code, problem(response)["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["u_1/explain", "a%20b/explain?notification=x", "u_1/inbox?limit=101", "a%20b/inbox"])
async def test_refuses(path: str, backend: httpx.AsyncClient) -> None:
    response = await backend.get(f"/v1/users/{path}")
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


async def test_a_notification_of_a_full_inbox_is_found_among_its_own(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    await changed(backend, ["u_1", "u_2"])
    keys = [await send(backend, to=to) for to in ({"user": "u_1"}, {"topic": TOPIC}, {"user": "u_2"})]
    await backend.post("/v1/notifications/bulk", json={"notifications": [notification() for _ in range(50)]})
    await dispatched(worker)
    assert [(await why(backend, key))["seq"] for key in keys] == [1, 2, None]
    assert [(await why(backend, key, "u_2"))["seq"] for key in keys] == [None, 1, 2]
