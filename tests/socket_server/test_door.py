"""Who may begin a connection, and what everybody else is answered before anything is allocated for them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from socket_server.door import Door
from tests.socket_server.conftest import running_node

if TYPE_CHECKING:
    from models.settings import Settings
    from tests.socket_server.conftest import Arrive, Make, Running

BOTH_WAYS = pytest.mark.parametrize(("transport", "accepted"), [("polling", 200), ("websocket", 101)])
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


async def begin(node: Running, address: str = "203.0.113.7", transport: str = "polling", code: str = "") -> int:
    """Return the status that a new connection is answered with; the test's own address is a trusted proxy's."""
    url = f"{node.url}/socket.io/?EIO=4&transport={transport}"
    headers = {"X-Forwarded-For": address} | (UPGRADE if transport == "websocket" else {})
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        if response.status >= 400:
            retry_in_s = int(response.headers["retry-after"])
            assert retry_in_s == 1 if code == "unavailable" else retry_in_s >= 1
            body = await response.json()
            assert (body["code"], bool(body["detail"])) == (code, True)
        return response.status


def refusals(node: Running, code: str) -> float:
    return REGISTRY.get_sample_value("bellhop_socket_refusals_total", {"node": node.node.name, "code": code}) or 0.0


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- addresses -------------------------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_an_address_may_begin_so_many_connections(
    transport: str, accepted: int, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    few = settings.model_copy(update={"connects_per_address_per_s": 0.5})
    async with running_node(few) as node:
        before = refusals(node, "rate_limited")
        statuses = [await begin(node, "203.0.113.7", transport, "rate_limited") for _ in range(8)]
        assert statuses == [accepted] * 5 + [429] * 3
        assert refusals(node, "rate_limited") == before + 3
        assert await begin(node, "203.0.113.8", transport) == accepted
    assert complaints(caplog) == []


async def test_an_ipv6_network_counts_as_one_address_and_a_trusted_proxy_as_none(settings: Settings) -> None:
    few = settings.model_copy(update={"connects_per_address_per_s": 0.1})
    async with running_node(few) as node:
        assert await begin(node, "2001:db8:1:2::1") == 200
        assert await begin(node, "2001:db8:1:2::ffff", code="rate_limited") == 429
        assert await begin(node, "2001:db8:1:3::1") == 200
        assert {await begin(node, "127.0.0.1") for _ in range(5)} == {200}


async def test_the_requests_of_a_session_that_exists_are_not_counted(
    settings: Settings, device: Make, arrive: Arrive
) -> None:
    few = settings.model_copy(update={"connects_per_address_per_s": 0.1, "trusted_proxies": ()})
    async with running_node(few) as node:
        one = await device().connect(node.url, transports=["polling"])
        for nth in range(1, 6):
            await arrive()
            await one.reach(nth)
        await one.client.disconnect()


async def test_many_addresses_push_out_the_oldest_and_nobody_who_keeps_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket_server.door._MOST_ADDRESSES", 10)
    served: list[str] = []

    async def app(scope: dict[str, Any], *_: Any) -> None:
        served.append(scope["client"][0])

    async def send(_: dict[str, Any]) -> None:
        """Answer nobody."""

    async def come(address: str) -> None:
        scope = {"type": "http", "path": "/socket.io/", "query_string": b"", "client": (address, 1)}
        await door(scope, None, send)  # type: ignore[arg-type]

    door = Door(app, per_s=0.001, trusted_proxies=(), node="n", draining=lambda: False)
    others = [f"2001:db8:0:{nth:x}::1" for nth in range(50)]
    for other in others:
        await come("203.0.113.7")
        await come(other)
    assert served == ["203.0.113.7", *others]
    assert list(door._buckets) == [
        *(f"2001:db8:0:{nth:x}::/64" for nth in range(41, 49)),
        "203.0.113.7",
        "2001:db8:0:31::/64",
    ]


# --- a node that drains ----------------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_a_node_that_drains_sends_who_is_new_to_another(
    transport: str, accepted: int, node: Running, caplog: pytest.LogCaptureFixture
) -> None:
    assert await begin(node, transport=transport) == accepted
    before = refusals(node, "unavailable")
    node.node.draining = True
    for address in ("203.0.113.7", "127.0.0.1"):
        assert await begin(node, address, transport, "unavailable") == 503
    assert refusals(node, "unavailable") == before + 2
    assert complaints(caplog) == []


async def test_a_node_that_drains_serves_who_is_there(node: Running, device: Make, arrive: Arrive) -> None:
    one = await device().connect(node.url, transports=["polling"])
    node.node.draining = True
    await arrive()
    await one.reach(1)
    async with aiohttp.ClientSession() as http, http.get(f"{node.url}/health/live") as response:
        assert response.status == 200
