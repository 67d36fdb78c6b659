"""A user who was disconnected: older tokens are refused everywhere and for good, newer ones let in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from models import revocations
from models.contracts import DisconnectOut
from models.keys import create_key
from tests.api.test_notifications import problem
from tests.conftest import SECRET, as_user, running_api
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    import httpx

    from models.settings import Settings


async def disconnect(client: httpx.AsyncClient, user: str = "u_1") -> None:
    response = await client.post(f"/v1/users/{user}/disconnect")
    assert response.status_code == 200
    assert DisconnectOut.model_validate_json(response.content).user == user


def bearing(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def issued(at: float | None, user: str = "u_1") -> dict[str, str]:
    claims: dict[str, Any] = {"sub": user, "tenant": "default", "exp": int(time.time()) + 600}
    return bearing(jwt.encode(claims if at is None else {**claims, "iat": at}, SECRET))


async def test_older_tokens_are_refused_and_newer_ones_let_in(backend: httpx.AsyncClient) -> None:
    older, others = as_user(), as_user("u_2")
    assert (await backend.get("/v1/inbox", headers=older)).status_code == 200
    await disconnect(backend)
    answer = await backend.get("/v1/inbox", headers=older)
    assert (answer.status_code, problem(answer)["code"]) == (401, "token_revoked")
    newer = (await backend.post("/v1/tokens", json={"user": "u_1"})).json()["token"]
    assert (await backend.get("/v1/inbox", headers=bearing(newer))).status_code == 200
    assert (await backend.get("/v1/inbox", headers=others)).status_code == 200


async def test_a_token_that_does_not_say_when_it_was_issued_is_older_than_any_revocation(
    backend: httpx.AsyncClient,
) -> None:
    assert (await backend.get("/v1/inbox", headers=issued(None))).status_code == 200
    await disconnect(backend)
    refused = problem(await backend.get("/v1/inbox", headers=issued(None)))
    assert refused["code"] == "token_revoked"
    assert "iat" in refused["detail"]


async def test_every_api_process_knows_within_a_second_and_after_a_restart(
    settings: Settings, backend: httpx.AsyncClient
) -> None:
    older = as_user()
    async with running_api(settings) as other:
        assert (await other.get("/v1/inbox", headers=older)).status_code == 200
        await disconnect(backend)

        async def refused() -> bool:
            return (await other.get("/v1/inbox", headers=older)).status_code == 401

        await eventually(refused, 1.0)
    async with running_api(settings) as restarted:
        assert problem(await restarted.get("/v1/inbox", headers=older))["code"] == "token_revoked"


async def test_what_is_too_long_ago_to_be_remembered_is_looked_up(
    settings: Settings, backend: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_days_ago = time.time() - 2 * 86_400
    older = issued(two_days_ago - 60)
    assert (await backend.get("/v1/inbox", headers=older)).status_code == 200
    await disconnect(backend)
    await backend._transport.app.state.resources.database.rows(  # type: ignore[attr-defined]
        "UPDATE revocation SET revoked_at = revoked_at - interval '2 days'", {}
    )
    async with running_api(settings) as other:
        assert problem(await other.get("/v1/inbox", headers=older))["code"] == "token_revoked"
        assert (await other.get("/v1/inbox", headers=issued(two_days_ago + 60))).status_code == 200
        assert other._transport.app.state.resources.tokens.revocations._known == {}  # type: ignore[attr-defined]


async def test_a_look_up_is_remembered_and_a_later_revocation_counts_all_the_same(
    settings: Settings, backend: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    undated = issued(None)
    known = backend._transport.app.state.resources.tokens.revocations  # type: ignore[attr-defined]
    for _ in range(3):
        assert (await backend.get("/v1/inbox", headers=undated)).status_code == 200
    assert list(known._looked_up) == [("default", "u_1")]
    async with running_api(settings) as other:
        other.headers["authorization"] = backend.headers["authorization"]
        await disconnect(other)

    async def refused() -> bool:
        return (await backend.get("/v1/inbox", headers=undated)).status_code == 401

    await eventually(refused, 1.0)


async def test_what_was_read_is_not_read_for_ever(settings: Settings, backend: httpx.AsyncClient) -> None:
    await disconnect(backend)
    database = backend._transport.app.state.resources.database  # type: ignore[attr-defined]
    await database.rows("UPDATE revocation SET revoked_at = revoked_at - interval '1 hour'", {})
    reader = revocations.Revocations(database)
    heard: list[Any] = []
    reader.on_new = lambda whose, _: heard.append(whose)
    read: list[Any] = []
    rows = database.rows

    async def counted(*asked: Any) -> Any:
        found = await rows(*asked)
        read.append([row["user_id"] for row in found])
        return found

    object.__setattr__(reader, "_database", type("Counted", (), {"rows": staticmethod(counted)})())
    await reader.read()
    await reader.read()
    assert (heard, read) == ([("default", "u_1")], [["u_1"], [None]])


async def test_old_revocations_leave_the_memory_and_hold_all_the_same(
    backend: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = as_user()
    await disconnect(backend)
    known = backend._transport.app.state.resources.tokens.revocations  # type: ignore[attr-defined]
    assert known._known
    monkeypatch.setattr(revocations, "_KEPT", revocations._KEPT * 0)
    await eventually(lambda: not known._known)
    assert problem(await backend.get("/v1/inbox", headers=older))["code"] == "token_revoked"


async def test_a_user_of_another_tenant_is_another_user(backend: httpx.AsyncClient, database_url: str) -> None:
    mine = as_user()
    _, theirs = create_key(database_url, tenant="other", scopes=["users:write"], name="other")
    backend.headers["authorization"] = f"Bearer {theirs}"
    await disconnect(backend)
    assert (await backend.get("/v1/inbox", headers=mine)).status_code == 200


@pytest.mark.parametrize("user", ["a" * 129, "a%0Ab", "a b"])
async def test_refuses_a_name_that_is_none(user: str, backend: httpx.AsyncClient) -> None:
    answer = problem(await backend.post(f"/v1/users/{user}/disconnect"))
    assert (answer["status"], answer["errors"][0]["pointer"]) == (422, "/user")


async def test_needs_the_scope(backend: httpx.AsyncClient, database_url: str) -> None:
    _, key = create_key(database_url, tenant="default", scopes=["notifications:write"], name="writer")
    backend.headers["authorization"] = f"Bearer {key}"
    assert problem(await backend.post("/v1/users/u_1/disconnect"))["code"] == "forbidden"
