"""What backends see of digests: they are said in the type, looked at, closed before their time, and cancelled from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.audit import audit
from models.contracts import ClosedDigests, ExplainOut, OpenDigests
from models.digest_closing import close_due
from models.keys import create_key
from models.states import Priority, Reason
from tests.api.test_cancel import cancel, look, send
from tests.api.test_erasure import GONE, NOTHING, erased, traces
from tests.api.test_notifications import ONE, problem
from tests.api.test_recipients import dispatched
from tests.api.test_users import bearing
from tests.conftest import as_user, notification
from tests.workers.test_digest import make_due
from tests.workers.test_fan_out import TOPIC, names, subscribe

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources

TYPE = "/v1/types/shop.order.shipped"
A = {"user": "a"}


async def register(backend: httpx.AsyncClient, key: str = "", every: str = "1h", url: str = TYPE) -> None:
    response = await backend.put(url, json={"digest": {"every": every, "key": key}})
    assert response.status_code == 200, response.text
    assert response.json()["digest"] == {"every": every, "key": key}
    assert (await backend.get(url)).json()["digest"] == {"every": every, "key": key}


async def waiting(backend: httpx.AsyncClient, user: str = "a") -> OpenDigests:
    response = await backend.get(f"/v1/users/{user}/digests")
    assert response.status_code == 200, response.text
    return OpenDigests.model_validate_json(response.content)


async def close(backend: httpx.AsyncClient, user: str = "a") -> ClosedDigests:
    response = await backend.post(f"/v1/users/{user}/digests/close")
    assert response.status_code == 200, response.text
    return ClosedDigests.model_validate_json(response.content)


async def inbox(backend: httpx.AsyncClient, user: str = "a") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await backend.get("/v1/inbox", headers=as_user(user))).json()["items"]
    return items


async def explained(backend: httpx.AsyncClient, key: str, user: str = "a") -> ExplainOut:
    response = await backend.get(f"/v1/users/{user}/explain?notification={key}")
    assert response.status_code == 200, response.text
    return ExplainOut.model_validate_json(response.content)


async def test_low_and_normal_wait_and_what_is_urgent_arrives_at_once(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    await register(backend)
    for priority in Priority:
        await send(backend, A, title=str(priority), priority=str(priority))
    await send(backend, A, title="the type's own priority")
    await dispatched(worker)
    assert {item["title"] for item in await inbox(backend)} == {"critical", "high"}
    (digest,) = (await waiting(backend)).digests
    assert digest.count == 3


async def test_a_preview_is_what_arrives_when_it_is_closed_now(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await register(backend, "{{ order }}")
    keys = [
        await send(backend, A, title=f"t{nth}", data={"order": nth % 2}, actor={"id": "u_9"}, action_url=f"/{nth}")
        for nth in range(3)
    ]
    await dispatched(worker)
    found = await waiting(backend)
    assert found == await waiting(backend)  # looking changes nothing
    assert [(each.type, each.key, each.count) for each in found.digests] == [
        ("shop.order.shipped", "0", 2),
        ("shop.order.shipped", "1", 1),
    ]
    preview = found.digests[0].preview
    assert preview is not None
    assert [item["id"] for item in preview.data["items"]] == [keys[0], keys[2]]
    done = await close(backend)
    assert ([each.key for each in done.closed], done.more) == (["0", "1"], False)
    assert (await waiting(backend)).digests == []
    await dispatched(worker)
    item = next(item for item in await inbox(backend) if item["id"] == str(done.closed[0].notification))
    assert {name: item[name] for name in preview.model_dump()} == preview.model_dump(mode="json")
    assert (await close(backend)).closed == []
    await send(backend, A, data={"order": 0})
    await dispatched(worker)
    assert [(each.key, each.count) for each in (await waiting(backend)).digests] == [("0", 1)]
    connection.execute("UPDATE notification SET expires_at = now() WHERE digest_key IS NOT NULL")
    assert [(each.count, each.preview) for each in (await waiting(backend)).digests] == [(0, None)]
    assert [(each.count, each.notification) for each in (await close(backend)).closed] == [(0, None)]


async def test_a_key_of_129_characters_is_the_senders_mistake_and_one_of_128_is_not(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    await register(backend, "{{ post }}")
    refused = await backend.post(ONE, json=notification("a", data={"post": "x" * 129}))
    assert refused.status_code == 422
    (wrong,) = problem(refused)["errors"]
    assert (wrong["pointer"], wrong["code"]) == ("/data", "template_failed")
    assert "128 characters" in wrong["detail"]
    missing = await backend.post(ONE, json=notification("a"))
    assert (missing.status_code, problem(missing)["errors"][0]["pointer"]) == (422, "/data")
    assert (await backend.post(ONE, json=notification("a", priority="high"))).status_code == 202  # it needs no key
    await send(backend, A, data={"post": "x" * 128})
    await dispatched(worker)
    assert [each.key for each in (await waiting(backend)).digests] == ["x" * 128]


async def test_what_was_accepted_gathers_as_its_type_said_then(backend: httpx.AsyncClient, worker: Resources) -> None:
    await register(backend)
    await send(backend, A)
    assert (await backend.put(TYPE, json={"digest": None})).json()["digest"] is None
    await send(backend, A, title="at once")
    await dispatched(worker)
    assert [item["title"] for item in await inbox(backend)] == ["at once"]
    assert [each.count for each in (await waiting(backend)).digests] == [1]


async def test_its_sender_and_support_are_told_where_it_is(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await register(backend)
    key = await send(backend, {"users": ["a", "b"]})
    await dispatched(worker)
    found = await look(backend, key)
    assert found["status"] == "dispatched"
    events = {event["event"]: event["detail"] for event in found["timeline"]}
    assert events["digested"] == "put into digests of 2 users, of which 2 wait"
    answer = await explained(backend, key)
    assert (answer.reason, answer.seq) == (Reason.WAITING, None)
    assert answer.verdict.startswith("Not yet: it waits in a digest until 2")
    assert "digested" in [event.event for event in answer.timeline]
    (closed,) = (await close(backend)).closed
    answer = await explained(backend, key)
    assert answer.reason is Reason.DIGESTED
    assert f"arrived within the digest {closed.notification}" in answer.verdict
    assert (await explained(backend, key, "b")).reason is Reason.WAITING
    assert "of which 1 wait" in str((await look(backend, key))["timeline"])
    make_due(connection)
    close_due(connection, 10)
    await dispatched(worker)
    assert (await explained(backend, key, "b")).reason is Reason.DIGESTED


async def test_cancelling_takes_it_out_of_what_waits_and_leaves_what_has_arrived(
    backend: httpx.AsyncClient, worker: Resources, database_url: str
) -> None:
    await register(backend)
    key = await send(backend, {"users": ["a", "b", "c"]}, title="cancelled")
    await send(backend, A, title="kept")
    await dispatched(worker)
    await close(backend, "b")
    assert await cancel(backend, key) == (2, 0, 1)
    assert await cancel(backend, key) == (2, 0, 1)
    assert (await explained(backend, key)).reason is Reason.CANCELLED
    assert (await explained(backend, key, "b")).reason is Reason.DIGESTED
    (digest,) = (await waiting(backend)).digests
    assert digest.preview is not None
    assert [item["title"] for item in digest.preview.data["items"]] == ["kept"]
    assert [each.notification for each in (await close(backend, "c")).closed] == [None]
    await close(backend)
    await dispatched(worker)
    assert [item["title"] for item in await inbox(backend)] == ["kept"]
    assert await inbox(backend, "c") == []
    assert audit(database_url, 10).some == ()


async def test_half_of_a_broadcast_is_taken_out_of_digests_and_the_rest_never_comes(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await register(backend)
    subscribe(connection, names(25))
    key = await send(backend, {"topic": TOPIC})
    await dispatched(worker)
    assert await cancel(backend, key) == (25, 0, 0)
    assert connection.execute("SELECT 1 FROM digest_entry").fetchall() == []
    assert [each.preview for each in (await waiting(backend, "u_003")).digests] == [None]


@pytest.mark.parametrize("closed", [False, True])
async def test_an_erased_user_leaves_no_digest_and_nothing_of_one_arrives(
    closed: bool, backend: httpx.AsyncClient, worker: Resources, connection: Connection, database_url: str
) -> None:
    await register(backend)
    await send(backend, {"user": GONE})
    shared = await send(backend, {"users": ["a", GONE]})
    await dispatched(worker)
    if closed:
        await close(backend, GONE)  # what it becomes waits in the outbox
    assert await erased(backend) == {
        **NOTHING,
        "digests": 1,
        "notifications": 1 + closed,
        "shared_notifications": 1,
    }
    assert traces(connection) == {"revocation"}
    assert audit(database_url, 10).some == ()
    await dispatched(worker)
    assert await inbox(backend, GONE) == []
    assert (await look(backend, shared))["to"] == {"users": ["a"]}
    assert [each.count for each in (await waiting(backend)).digests] == [1]


async def test_keys_need_the_scopes_and_see_and_close_their_domains(
    backend: httpx.AsyncClient, worker: Resources, database_url: str
) -> None:
    await register(backend)
    await register(backend, url="/v1/types/blog.post.liked")
    await send(backend, A)
    await send(backend, A, type="blog.post.liked")
    await dispatched(worker)
    _, reader = create_key(database_url, tenant="default", scopes=["notifications:read"], name="r", domains=["blog"])
    _, writer = create_key(database_url, tenant="default", scopes=["notifications:write"], name="w", domains=["blog"])
    _, other = create_key(database_url, tenant="other", scopes=["admin"], name="o")
    assert (await backend.get("/v1/users/a/digests", headers=bearing(writer))).status_code == 403
    assert (await backend.post("/v1/users/a/digests/close", headers=bearing(reader))).status_code == 403
    seen = await backend.get("/v1/users/a/digests", headers=bearing(reader))
    assert [each["type"] for each in seen.json()["digests"]] == ["blog.post.liked"]
    assert (await backend.get("/v1/users/a/digests", headers=bearing(other))).json()["digests"] == []
    assert (await backend.post("/v1/users/a/digests/close", headers=bearing(other))).json()["closed"] == []
    done = await backend.post("/v1/users/a/digests/close", headers=bearing(writer))
    assert [each["type"] for each in done.json()["closed"]] == ["blog.post.liked"]
    assert [each.type for each in (await waiting(backend)).digests] == ["shop.order.shipped"]
    assert (await backend.get("/v1/users/a b/digests")).status_code == 422
