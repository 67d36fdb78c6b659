"""Several tenants, managed by the system's administrators only, each with secrets, keys and limits of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from models.contracts import KeyCreated, KeyList, TenantOut, TenantsPage, TenantWithSecret
from models.keys import create_key
from models.states import Priority
from tests.api.test_notifications import ONE, problem
from tests.api.test_users import bearing
from tests.conftest import nobody, notification, token
from tests.socket_server.conftest import eventually
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources

URL = "/v1/tenants"
ACME = f"{URL}/acme"


async def made(backend: httpx.AsyncClient, name: str = "acme", **more: Any) -> TenantWithSecret:
    response = await backend.post(URL, json={"id": name, **more})
    assert response.status_code == 201, response.text
    return TenantWithSecret.model_validate_json(response.content)


async def key_of(backend: httpx.AsyncClient, name: str = "acme", *scopes: str) -> dict[str, str]:
    """Make a tenant a key, and return the headers that call with it."""
    response = await backend.post(f"{URL}/{name}/keys", json={"name": "first", "scopes": scopes or ["admin"]})
    assert response.status_code == 201, response.text
    return bearing(KeyCreated.model_validate_json(response.content).key)


async def changed(backend: httpx.AsyncClient, **values: Any) -> TenantWithSecret:
    response = await backend.patch(ACME, json=values)
    assert response.status_code == 200, response.text
    return TenantWithSecret.model_validate_json(response.content)


async def accepts(backend: httpx.AsyncClient, secret: str | None) -> bool:
    """Say whether a token of acme that is signed with this secret lets its user in."""
    assert secret
    headers = bearing(token(tenant="acme", secret=secret))
    return (await backend.get("/v1/inbox", headers=headers)).status_code == 200


async def test_a_tenant_is_made_listed_and_looked_at_and_its_secret_shown_once(backend: httpx.AsyncClient) -> None:
    acme = await made(backend, jwks_url="https://id.example.com/jwks.json", ingest_per_s=5)
    assert acme.secret
    shown = await backend.get(ACME)
    assert TenantOut.model_validate_json(shown.content) == TenantOut(**acme.model_dump(exclude={"secret"}))
    await made(backend, "zoo")
    first = TenantsPage.model_validate_json((await backend.get(URL, params={"limit": 2})).content)
    second = TenantsPage.model_validate_json((await backend.get(URL, params={"after": first.next_after})).content)
    assert [each.id for each in (*first.tenants, *second.tenants)] == ["acme", "default", "zoo"]
    assert (first.next_after, second.next_after) == ("default", None)
    assert acme.secret not in (await backend.get(URL)).text + shown.text


async def test_its_first_key_comes_from_the_system_and_is_its_own(backend: httpx.AsyncClient) -> None:
    acme = await made(backend)
    headers = await key_of(backend)
    minted = (await backend.post("/v1/tokens", json={"user": "u_1"}, headers=headers)).json()["token"]
    assert jwt.decode(minted, str(acme.secret), algorithms=["HS256"])["tenant"] == "acme"
    own = KeyList.model_validate_json((await backend.get("/v1/keys", headers=headers)).content)
    assert own == KeyList.model_validate_json((await backend.get(f"{ACME}/keys")).content)
    assert (await backend.delete(f"{URL}/default/keys/{own.keys[0].id}")).status_code == 404
    assert (await backend.delete(f"{ACME}/keys/{own.keys[0].id}")).status_code == 204
    assert (await backend.get("/v1/keys", headers=headers)).status_code == 401


async def test_a_rotated_secret_is_believed_until_the_rotation_ends(backend: httpx.AsyncClient) -> None:
    first = (await made(backend)).secret
    rotated = await changed(backend, secret="rotate")
    assert (rotated.in_rotation, await accepts(backend, first), await accepts(backend, rotated.secret)) == (True,) * 3
    ended = await changed(backend, secret="end_rotation")
    assert (ended.in_rotation, ended.secret) == (False, None)
    assert (await accepts(backend, first), await accepts(backend, rotated.secret)) == (False, True)


async def test_a_change_leaves_what_it_does_not_name_and_null_takes_away(backend: httpx.AsyncClient) -> None:
    secret = (await made(backend)).secret
    await changed(backend, ingest_per_s=50.5)
    kept = {"shop.*": {"items": 50, "age_s": 86_400}, "*": {"items": 10}}
    after = await changed(backend, retention=kept, jwks_url="https://id.example.com/a")
    assert (after.ingest_per_s, after.jwks_url, after.secret) == (50.5, "https://id.example.com/a", None)
    assert after.model_dump()["retention"]["shop.*"] == kept["shop.*"]
    after = await changed(backend, retention=None)
    assert (after.ingest_per_s, after.jwks_url, after.retention) == (50.5, "https://id.example.com/a", None)
    assert await accepts(backend, secret)


async def test_its_own_limit_is_for_all_its_keys_together(backend: httpx.AsyncClient) -> None:
    await made(backend, ingest_per_s=0.5)
    one, other = await key_of(backend), await key_of(backend)
    for nth in range(5):
        response = await backend.post(ONE, json=notification(), headers=(one, other)[nth % 2])
        assert response.status_code == 202
        assert response.headers["ratelimit-policy"] == '"ingest";q=200000;w=10, "tenant";q=5;w=10'
        assert f'"tenant";r={4 - nth};' in response.headers["ratelimit"]
    refused = await backend.post(ONE, json=notification(), headers=other)
    assert (refused.status_code, problem(refused)["code"]) == (429, "rate_limited")
    assert "This tenant may send 5" in refused.json()["detail"]
    assert (await backend.post(ONE, json=notification())).status_code == 202
    await changed(backend, ingest_per_s=None)
    assert (await backend.post(ONE, json=notification(), headers=other)).status_code == 202


async def test_a_bulk_past_its_own_limit_can_never_fit(backend: httpx.AsyncClient) -> None:
    await made(backend, ingest_per_s=0.2)
    bulk = {"notifications": [notification()] * 3}
    refused = await backend.post(f"{ONE}/bulk", json=bulk, headers=await key_of(backend))
    assert (refused.status_code, problem(refused)["errors"][0]["code"]) == (422, "bulk_size")


async def test_one_without_data_is_deleted_with_its_keys(backend: httpx.AsyncClient) -> None:
    secret = (await made(backend)).secret
    headers = await key_of(backend)
    assert await accepts(backend, secret)
    assert (await backend.delete(ACME)).status_code == 204
    assert (await backend.get("/v1/keys", headers=headers)).status_code == 401
    assert not await accepts(backend, secret)
    assert problem(await backend.get(ACME))["code"] == "not_found"
    assert problem(await backend.delete(ACME))["code"] == "not_found"
    assert (await made(backend)).secret != secret


async def test_one_with_data_stays_as_it_is(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await made(backend)
    headers = await key_of(backend)
    await backend.post(ONE, json=notification(), headers=headers)
    refused = problem(await backend.delete(ACME))
    assert (refused["status"], refused["code"]) == (409, "tenant_not_empty")
    assert "notifications" in refused["detail"]
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    assert "inboxes" in problem(await backend.delete(ACME))["detail"]
    assert (await backend.get("/v1/keys", headers=headers)).status_code == 200
    connection.execute("DELETE FROM api_key WHERE tenant = 'acme'")
    connection.execute("DELETE FROM tenant WHERE id = 'acme'")
    again = problem(await backend.post(URL, json={"id": "acme"}))
    assert again["code"] == "tenant_not_empty", "whoever gets the name would get the data"
    assert problem(await backend.get(ACME))["code"] == "not_found"


async def test_a_name_is_used_once_and_the_default_one_is_the_systems(backend: httpx.AsyncClient) -> None:
    await made(backend)
    assert problem(await backend.post(URL, json={"id": "acme"}))["code"] == "tenant_exists"
    default = f"{URL}/default"
    for refused in (
        await backend.post(URL, json={"id": "default"}),
        await backend.patch(default, json={"secret": "rotate"}),
        await backend.patch(default, json={"jwks_url": "https://id.example.com/a"}),
        await backend.delete(default),
    ):
        assert (refused.status_code, problem(refused)["code"]) == (409, "default_tenant")
    response = await backend.patch(default, json={"ingest_per_s": 0.1})
    assert response.status_code == 200
    assert (await backend.post(ONE, json=notification())).status_code == 202
    assert (await backend.post(ONE, json=notification())).status_code == 429


async def test_only_administrators_of_the_system_manage_tenants(backend: httpx.AsyncClient, database_url: str) -> None:
    theirs = (await made(backend), await key_of(backend))[1]
    _, clerk = create_key(database_url, tenant="default", scopes=["users:write", "tokens:mint"], name="clerk")
    key_id = (await backend.get(f"{ACME}/keys")).json()["keys"][0]["id"]
    for headers in (theirs, bearing(clerk)):
        for method, url, body in (
            ("POST", URL, {"id": "new"}),
            ("GET", URL, None),
            ("GET", ACME, None),
            ("PATCH", ACME, {"secret": "rotate"}),
            ("DELETE", ACME, None),
            ("POST", f"{ACME}/keys", {"name": "x", "scopes": ["admin"]}),
            ("GET", f"{ACME}/keys", None),
            ("DELETE", f"{ACME}/keys/{key_id}", None),
        ):
            refused = await backend.request(method, url, json=body, headers=headers)
            assert (refused.status_code, problem(refused)["code"]) == (403, "forbidden"), (method, url)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": "No Good"}, "/id"),
        ({"id": "a/b"}, "/id"),
        ({}, "/id"),
        ({"id": "x", "jwks_url": "http://id.example.com/a"}, "/jwks_url"),
        ({"id": "x", "jwks_url": "https://"}, "/jwks_url"),
        ({"id": "x", "ingest_per_s": 0}, "/ingest_per_s"),
        ({"id": "x", "ingest_per_s": True}, "/ingest_per_s"),
        ({"id": "x", "retention": {}}, "/retention"),
        ({"id": "x", "retention": {"*": {"items": 0}}}, "/retention/*/items"),
        ({"id": "x", "retention": {"*": {"age_s": 59}}}, "/retention/*/age_s"),
        ({"id": "x", "secret": "mine"}, "/secret"),
    ],
)
async def test_refuses_a_tenant_that_makes_no_sense(
    body: dict[str, Any], pointer: str, backend: httpx.AsyncClient
) -> None:
    answer = problem(await backend.post(URL, json=body))
    assert (answer["status"], answer["code"]) == (422, "validation_failed")
    assert pointer in {wrong["pointer"] for wrong in answer["errors"]}
    assert [each["id"] for each in (await backend.get(URL)).json()["tenants"]] == ["default"]


@pytest.mark.parametrize("body", [{}, {"secret": None}, {"secret": "new"}, {"id": "other"}, {"retention": {"a b": {}}}])
async def test_refuses_a_change_that_makes_no_sense(body: dict[str, Any], backend: httpx.AsyncClient) -> None:
    before = (await made(backend), await backend.get(ACME))[1].json()
    assert problem(await backend.patch(ACME, json=body))["code"] == "validation_failed"
    assert (await backend.get(ACME)).json() == before


async def test_what_is_not_there_is_not_found(backend: httpx.AsyncClient) -> None:
    for method, url, body in (
        ("GET", ACME, None),
        ("PATCH", ACME, {"ingest_per_s": 1}),
        ("POST", f"{ACME}/keys", {"name": "x", "scopes": ["admin"]}),
        ("GET", f"{ACME}/keys", None),
    ):
        refused = await backend.request(method, url, json=body)
        assert (refused.status_code, problem(refused)["code"]) == (404, "not_found"), (method, url)
    assert problem(await backend.get(f"{URL}/No%20Good"))["errors"][0]["pointer"] == "/tenant"


async def test_one_that_is_made_again_has_nothing_of_the_one_before(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    body = {"id": "acme"}

    async def enter() -> dict[str, str]:
        assert (await backend.post("/v1/tenants", json=body)).status_code == 201
        created = await backend.post("/v1/tenants/acme/keys", json={"name": "x", "scopes": ["admin"]})
        return {"authorization": f"Bearer {created.json()['key']}"}

    first = await enter()
    url, kept = "/v1/types/shop.order.shipped", {"templates": {"en": {"title": "The old one's"}}}
    for _ in range(3):
        assert (await backend.put(url, json=kept, headers=first)).status_code == 200
    room = "/v1/rooms/shop:order:1/events"
    assert (await backend.post(room, json={"event": "x"}, headers=first)).status_code == 202
    assert (await backend.delete("/v1/tenants/acme")).json()["code"] == "tenant_not_empty"
    connection.execute("DELETE FROM room_event")
    assert (await backend.delete("/v1/tenants/acme")).status_code == 204
    second = await enter()
    assert (await backend.get(url, headers=second)).status_code == 404
    said = {"to": {"user": "u_1"}, "type": "shop.order.shipped"}

    async def needs_a_title() -> bool:
        return (await backend.post("/v1/notifications", json=said, headers=second)).status_code == 422

    await eventually(needs_a_title, patience_s=2)
    changed = await backend.put(url, json={"templates": {"en": {"title": "The new one's"}}}, headers=second)
    assert changed.json()["version"] > 3
    sent = await backend.post("/v1/notifications", json=said, headers=second)
    shown = await backend.get(f"/v1/notifications/{sent.json()['id']}", headers=second)
    assert shown.json()["title"] == "The new one's"
