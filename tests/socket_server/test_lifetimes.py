"""A connection lives as long as its token, which can be exchanged; what the new one does not grant is left."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import socketio
from pydantic import SecretStr

from models.keys import create_key
from models.socket_events import ExpiringFrame, RefreshOut
from models.tokens import mint_token
from tests.conftest import SECRET, running_api, token
from tests.models.identity_provider import serving, signed
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Arrive, Make, Publish, Running

ROOM = "shop:order:42"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"token_grace_s": 0.5})


async def test_it_is_told_before_its_token_ends_and_closed_soon_after(node: Running, device: Make) -> None:
    one = await device().connect(node.url, auth={"token": token(ttl_s=2)})
    ends_at = datetime.fromisoformat(one.ready["expires_at"])
    await eventually(lambda: "expiring" in one.order)
    assert datetime.now(UTC) < ends_at
    ExpiringFrame.model_validate(one.expiring[0])
    assert one.expiring == [{"expires_at": one.ready["expires_at"]}]
    await eventually(lambda: not one.client.connected)
    assert datetime.now(UTC) >= ends_at + timedelta(seconds=0.5)  # the grace
    assert one.errors[-1]["code"] == "token_expired"


async def test_tokens_of_a_provider_and_of_the_secret_before_are_good_everywhere(
    settings: Settings, device: Make
) -> None:
    before = {"secret_key_previous": SecretStr("a secret of yesterday, long enough"), "jwks_allow_private": True}
    good = [
        token(),
        token(secret="a secret of yesterday, long enough"),  # a test's
        *(signed(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")),
    ]
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(serving())
        changing = settings.model_copy(update=before | {"jwks_url": provider.url})
        node = await stack.enter_async_context(running_node(changing))
        api = await stack.enter_async_context(running_api(changing))
        for text in good:
            await device().connect(node.url, auth={"token": text})
            answer = await api.get("/v1/inbox", headers={"authorization": f"Bearer {text}"})
            assert answer.status_code == 200, answer.text
        answer = await api.get("/v1/inbox", headers={"authorization": f"Bearer {token(secret='x' * 40)}"})
        assert answer.status_code == 401


async def test_a_new_token_keeps_it_alive(node: Running, device: Make, arrive: Arrive) -> None:
    one = await device().connect(node.url, auth={"token": token(ttl_s=1)})
    answer = await one.call("refresh", {"token": token(ttl_s=600)})
    RefreshOut.model_validate(answer)
    assert answer["ok"]
    await asyncio.sleep(2)
    assert one.client.connected
    await arrive()
    await one.reach(1)


async def test_a_new_token_may_grant_more(node: Running, device: Make) -> None:
    one = await device().connect(node.url)
    assert not (await one.join(ROOM))["ok"]
    await one.call("refresh", {"token": token(rooms=["shop:*"])})
    assert (await one.join(ROOM))["ok"]


async def test_what_a_new_token_does_not_grant_is_left(node: Running, device: Make, publish: Publish) -> None:
    one = await device().connect(node.url, rooms=["shop:*", "blog:*"])
    await one.join(ROOM)
    await one.join("blog:post:1")
    await one.call("refresh", {"token": token(rooms=["blog:*"])})
    await eventually(lambda: one.errors)
    assert {name: one.errors[0][name] for name in ("code", "event", "room")} == {
        "code": "not_granted",
        "event": "join",
        "room": ROOM,
    }
    await publish(ROOM)
    await publish("blog:post:1")
    await one.reach_in("blog:post:1", 1)
    assert one.heard(ROOM) == []


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "another user's": (lambda: token("u_2"), "wrong_user"),
    "another tenant's": (lambda: mint_token("x" * 40, tenant="other", user="u_1", ttl_s=60)[0], "wrong_user"),
    "an expired": (lambda: mint_token(SECRET, tenant="default", user="u_1", ttl_s=-60)[0], "token_expired"),
    "a forged": (lambda: token(secret="y" * 40), "token_invalid"),
    "no": (lambda: None, "validation_failed"),
}


@pytest.mark.parametrize("whose", WRONG)
async def test_refuses_to_go_on_with(
    whose: str, node: Running, device: Make, database_url: str, arrive: Arrive
) -> None:
    create_key(database_url, tenant="other", scopes=["admin"], name="other")
    await node.node._tokens.tenants._database.rows(f"UPDATE tenant SET secret = '{'x' * 40}' WHERE id = 'other'", {})
    make, code = WRONG[whose]
    one = await device().connect(node.url, rooms=["shop:*"])
    await one.join(ROOM)
    answer = await one.call("refresh", {"token": make()})
    assert (answer["ok"], answer["error"]["code"]) == (False, code)
    await arrive()
    await one.reach(1)
    assert [connection.token.user for connection in node.node._registry.connections()] == ["u_1"]


async def test_a_revocation_ends_a_users_sockets_on_every_node_within_a_second(
    settings: Settings, node: Running, device: Make, api_key: str
) -> None:
    async with running_node(settings) as other, running_api(settings) as api:
        headers = {"authorization": f"Bearer {api_key}"}
        theirs = [await device().connect(url) for url in (node.url, other.url)]
        somebody_else = await device().connect(node.url, "u_2")
        started = time.monotonic()
        await api.post("/v1/users/u_1/disconnect", headers=headers)
        await eventually(lambda: not any(one.client.connected for one in theirs))
        assert time.monotonic() - started < 1
        assert {one.errors[-1]["code"] for one in theirs} == {"token_revoked"}
        assert somebody_else.client.connected

        late = device()
        with pytest.raises(socketio.exceptions.ConnectionError):
            await late.connect(node.url, auth={"token": mint_before(started)})
        assert late.refusal["data"]["code"] == "token_revoked"
        newer = (await api.post("/v1/tokens", json={"user": "u_1"}, headers=headers)).json()["token"]
        await device().connect(node.url, auth={"token": newer})


def mint_before(monotonic: float) -> str:
    import jwt  # noqa: PLC0415

    issued_at = time.time() - (time.monotonic() - monotonic) - 1
    return jwt.encode({"sub": "u_1", "tenant": "default", "iat": issued_at, "exp": time.time() + 600}, SECRET)


async def test_a_refreshed_connection_outlives_the_revocation_of_its_first_token(
    settings: Settings, node: Running, device: Make, api_key: str
) -> None:
    async with running_api(settings) as api:
        older = await device().connect(node.url)
        headers = {"authorization": f"Bearer {api_key}"}
        await api.post("/v1/users/u_1/disconnect", headers=headers)
        newer = (await api.post("/v1/tokens", json={"user": "u_1"}, headers=headers)).json()["token"]
        one = await device().connect(node.url, auth={"token": newer})
        await eventually(lambda: not older.client.connected)
        await node.node._tokens.revocations.read()
        assert one.client.connected


async def test_who_is_erased_is_cut_off_and_leaves_no_trace(
    settings: Settings, node: Running, device: Make, arrive: Arrive, api_key: str, connection: Connection
) -> None:
    async with running_api(settings) as api:
        one, other = await device().connect(node.url), await device().connect(node.url, "u_2")
        await arrive("u_1")
        await one.reach(1)
        headers = {"authorization": f"Bearer {api_key}"}
        assert (await api.delete("/v1/users/u_1", headers=headers)).json()["erased"]["deliveries"] == 1
        await eventually(lambda: not one.client.connected)
        assert one.errors[-1]["code"] == "token_revoked"
        await other.client.disconnect()
        seen = "SELECT user_id FROM presence"
        await eventually(lambda: connection.execute(seen).fetchall())  # by then, the first one was noted, too
        assert connection.execute(seen).fetchall() == [{"user_id": "u_2"}]
        newer = (await api.post("/v1/tokens", json={"user": "u_1"}, headers=headers)).json()["token"]
        back = await device().connect(node.url, auth={"token": newer, "since": 1})
        assert back.ready["reset"] is True
        await arrive("u_1")
        await back.reach(1)


async def test_a_node_that_restarts_still_refuses(settings: Settings, device: Make, api_key: str) -> None:
    older = token()
    async with running_api(settings) as api:
        await api.post("/v1/users/u_1/disconnect", headers={"authorization": f"Bearer {api_key}"})
    async with running_node(settings) as node:
        late = device()
        with pytest.raises(socketio.exceptions.ConnectionError):
            await late.connect(node.url, auth={"token": older})
        assert late.refusal["data"]["code"] == "token_revoked"
