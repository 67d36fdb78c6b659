"""Keys and tokens: nobody gets in with less than they need, and nobody gets at another tenant."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import jwt
import orjson
import pytest

from models.contracts import KeyCreated, KeyList, TokenOut
from models.keys import create_key, list_keys, revoke_key
from tests.api.test_notifications import problem
from tests.conftest import SECRET, as_user, notification, token

if TYPE_CHECKING:
    import httpx

NOW = int(time.time())
DAY_S = 86_400  # these tokens are made when the tests are collected: no run may take long enough to change them


def signed(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"sub": "u_1", "tenant": "default", "exp": NOW + DAY_S, **claims}, secret, algorithm=algorithm)


def unsigned() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part({'sub': 'u_1', 'tenant': 'default', 'exp': NOW + DAY_S})}."


BAD_TOKENS = {
    "nothing": ("", "token_invalid"),
    "noise": ("noise", "token_invalid"),
    "very long noise": ("x" * 9_000, "token_invalid"),
    "expired": (signed({"exp": NOW - 60}), "token_expired"),
    "alg: none": (unsigned(), "token_invalid"),
    "another secret": (signed({}, secret="x" * 40), "token_invalid"),
    "another algorithm": (signed({}, secret="x" * 64, algorithm="HS512"), "token_invalid"),
    "issued in the future": (signed({"iat": NOW + DAY_S}), "token_invalid"),
    "not valid before": (signed({"nbf": NOW + DAY_S}), "token_invalid"),
    "no end": (jwt.encode({"sub": "u_1", "tenant": "default"}, SECRET), "token_invalid"),
    "no user": (jwt.encode({"tenant": "default", "exp": NOW + DAY_S}, SECRET), "token_invalid"),
    "no tenant": (jwt.encode({"sub": "u_1", "exp": NOW + DAY_S}, SECRET), "token_invalid"),
    "an unknown tenant": (signed({"tenant": "nowhere"}), "token_invalid"),
    "a tenant with a slash": (signed({"tenant": "a/b"}), "token_invalid"),
    "a user with a space": (signed({"sub": "a b"}), "token_invalid"),
    "an end beyond all time": (signed({"exp": 10**18}), "token_invalid"),
    "rooms that are not names": (signed({"rooms": [1]}), "token_invalid"),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
async def test_refuses_a_token_with(what: str, anonymous: httpx.AsyncClient) -> None:
    text, code = BAD_TOKENS[what]
    response = await anonymous.get("/v1/inbox", headers={"authorization": f"Bearer {text}"})
    assert (response.status_code, problem(response)["code"]) == (401, code)


async def test_a_minted_token_lets_its_user_in(backend: httpx.AsyncClient) -> None:
    response = await backend.post(
        "/v1/tokens", json={"user": "u_9", "ttl": 60, "rooms": ["shop:order:*"], "locale": "uk"}
    )
    answer = TokenOut.model_validate_json(response.content)
    claims = jwt.decode(answer.token, SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["tenant"], claims["rooms"], claims["locale"]) == (
        "u_9",
        "default",
        ["shop:order:*"],
        "uk",
    )
    assert claims["exp"] == int(claims["iat"]) + 60
    inbox = await backend.get("/v1/inbox", headers={"authorization": f"Bearer {answer.token}"})
    assert inbox.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": ""},
        {"user": "u", "ttl": 0},
        {"user": "u", "ttl": -5},
        {"user": "u", "ttl": "1"},
        {"user": "u", "rooms": ["shop:*:42"]},
        {"user": "u", "rooms": ["*:42"]},
        {"user": "u", "rooms": ["shop:\n"]},
        {"user": "u", "rooms": ["x" * 129]},
        {"user": "u", "rooms": [""]},
        {"user": "u", "rooms": "shop:*"},
        {"user": "u", "watch": ["a b"]},
        {"user": "u", "watch": ["u"] * 101},
    ],
)
async def test_refuses_to_mint_for(body: dict[str, Any], backend: httpx.AsyncClient) -> None:
    response = await backend.post("/v1/tokens", json=body)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


async def test_refuses_to_mint_a_token_too_long_to_be_accepted(backend: httpx.AsyncClient) -> None:
    grants = [f"room:{nth:03}:{'x' * 100}" for nth in range(100)]
    response = await backend.post("/v1/tokens", json={"user": "u", "rooms": grants})
    assert problem(response)["errors"][0]["code"] == "too_many_grants"


async def test_each_tenant_signs_with_its_own_secret(backend: httpx.AsyncClient, database_url: str) -> None:
    _, other = create_key(database_url, tenant="acme", scopes=["admin"], name="other")
    minted = (await backend.post("/v1/tokens", json={"user": "u"}, headers={"authorization": f"Bearer {other}"})).json()
    assert jwt.decode(minted["token"], options={"verify_signature": False})["tenant"] == "acme"
    assert (await backend.get("/v1/inbox", headers={"authorization": f"Bearer {minted['token']}"})).status_code == 200
    forged = {"authorization": f"Bearer {token('u', tenant='acme')}"}
    assert (await backend.get("/v1/inbox", headers=forged)).status_code == 401


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer nonsense", "Basic abc", f"Bearer bh_{'0' * 16}_{'x' * 43}"]
)
async def test_refuses_a_key_that_is_none(header: str | None, anonymous: httpx.AsyncClient) -> None:
    headers = {} if header is None else {"authorization": header}
    response = await anonymous.post("/v1/notifications", json=notification(), headers=headers)
    assert (response.status_code, problem(response)["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    is_one = header is not None and "bh_" in header
    said = "This API key is unknown or was revoked" if is_one else "Send an API key, which begins with bh_"
    assert problem(response)["detail"].startswith(said)


async def test_a_user_token_is_not_a_key_and_a_key_is_not_a_token(backend: httpx.AsyncClient) -> None:
    assert (await backend.post("/v1/notifications", json=notification(), headers=as_user())).status_code == 401
    assert (await backend.get("/v1/inbox")).status_code == 401


async def test_keys_are_made_listed_and_revoked(backend: httpx.AsyncClient) -> None:
    wanted = {"name": "orders", "scopes": ["notifications:write"], "domains": ["shop"]}
    response = await backend.post("/v1/keys", json=wanted)
    made = KeyCreated.model_validate_json(response.content)
    assert response.status_code == 201
    listed = KeyList.model_validate_json((await backend.get("/v1/keys")).content)
    assert made.id in [key.id for key in listed.keys]
    assert made.key not in (await backend.get("/v1/keys")).text

    headers = {"authorization": f"Bearer {made.key}"}
    assert (await backend.post("/v1/notifications", json=notification(), headers=headers)).status_code == 202
    elsewhere = await backend.post("/v1/notifications", json=notification(type="blog.post.liked"), headers=headers)
    assert (elsewhere.status_code, problem(elsewhere)["code"]) == (403, "forbidden")
    bulk = await backend.post(
        "/v1/notifications/bulk",
        json={"notifications": [notification(), notification(type="blog.post.liked")]},
        headers=headers,
    )
    assert [result["status"] for result in bulk.json()["results"]] == ["accepted", "rejected"]
    for path in ("/v1/keys", f"/v1/notifications/{bulk.json()['results'][0]['id']}"):
        assert (await backend.get(path, headers=headers)).status_code == 403
    assert (await backend.post("/v1/tokens", json={"user": "u"}, headers=headers)).status_code == 403

    assert (await backend.delete(f"/v1/keys/{made.id}")).status_code == 204
    revoked = await backend.post("/v1/notifications", json=notification(), headers=headers)
    assert (revoked.status_code, problem(revoked)["code"]) == (401, "unauthorized")
    assert (await backend.delete(f"/v1/keys/{made.id}")).status_code == 404


async def test_a_key_of_another_tenant_cannot_be_revoked(backend: httpx.AsyncClient, database_url: str) -> None:
    other_id, _ = create_key(database_url, tenant="acme", scopes=["admin"], name="other")
    assert (await backend.delete(f"/v1/keys/{other_id}")).status_code == 404
    assert (await backend.delete("/v1/keys/%00")).status_code == 404
    assert {key["id"]: key["revoked_at"] for key in list_keys(database_url)}[other_id] is None
    assert revoke_key(database_url, other_id)
    assert not revoke_key(database_url, other_id)


@pytest.mark.parametrize(
    "body", [{"name": "x", "scopes": []}, {"name": "x", "scopes": ["all"]}, {"name": "", "scopes": ["admin"]}]
)
async def test_refuses_to_make_a_key_with(body: dict[str, Any], backend: httpx.AsyncClient) -> None:
    response = await backend.post("/v1/keys", json=body)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")
