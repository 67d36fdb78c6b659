"""How much one client, one user and one address may take: refused with a clear word, counted, and the rest lives on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
import redis.asyncio
import socketio
from prometheus_client import REGISTRY

from socket_server import replay
from tests.conftest import token
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    from models.settings import Settings
    from tests.socket_server.conftest import Arrive, Make, Running


def refusals(node: Running, code: str) -> float:
    return REGISTRY.get_sample_value("bellhop_socket_refusals_total", {"node": node.node.name, "code": code}) or 0.0


# --- events ----------------------------------------------------------------------------------------------------------


async def test_ten_thousand_events_in_a_second_end_the_connection_and_nothing_else(
    node: Running, device: Make, arrive: Arrive
) -> None:
    calm = await device().connect(node.url, "u_2")
    before = refusals(node, "rate_limited")
    async with aiohttp.ClientSession() as http:
        websocket = await http.ws_connect(f"{node.url}/socket.io/?EIO=4&transport=websocket")
        await websocket.receive_str()
        await websocket.send_str(f'40{{"token":"{token()}"}}')
        await websocket.receive_str()
        started = time.monotonic()
        for _ in range(10_000):
            if websocket.closed:
                break
            await websocket.send_str('42["ack",{"seq":0}]')
        seen: set[str] = set()
        async with asyncio.timeout(10):
            async for message in websocket:
                if message.type is aiohttp.WSMsgType.TEXT and "rate_limited" in message.data:
                    seen.add("rate_limited")
        assert time.monotonic() - started < 10
    assert seen == {"rate_limited"}
    assert refusals(node, "rate_limited") > before
    await arrive("u_2")
    await calm.reach(1)


async def test_a_user_has_one_allowance_over_all_devices_and_nodes(settings: Settings, device: Make) -> None:
    little = settings.model_copy(update={"user_events_per_s": 1.0})
    async with running_node(little) as node, running_node(little) as other:
        devices = [await device().connect(url) for url in (node.url, other.url)]
        answers = [await devices[nth % 2].call("sync", {"since": 0}) for nth in range(14)]
        assert [answer["ok"] for answer in answers] == [True] * 10 + [False] * 4
        error = answers[-1]["error"]
        assert (error["code"], 1 <= error["retry_in_ms"] <= 10_000) == ("rate_limited", True)
        somebody_else = await device().connect(node.url, "u_2")
        assert (await somebody_else.call("sync", {"since": 0}))["ok"]
        for one in (*devices, somebody_else):
            await one.client.disconnect()


async def test_without_redis_events_are_limited_by_each_node(settings: Settings, device: Make) -> None:
    little = settings.model_copy(update={"user_events_per_s": 1.0})
    async with running_node(little) as node:
        one = await device().connect(node.url)
        async with redis.asyncio.Redis.from_url(settings.redis_url) as client:
            await client.config_set("maxmemory", 1)  # it refuses to write
            try:
                answers = [await one.call("act", {"action": "read", "seqs": [1]}) for _ in range(12)]
            finally:
                await client.config_set("maxmemory", 0)
        assert [answer["ok"] for answer in answers] == [True] * 10 + [False] * 2
        await one.client.disconnect()


# --- sockets ---------------------------------------------------------------------------------------------------------


async def test_a_user_may_have_so_many_sockets_over_all_nodes(settings: Settings, device: Make) -> None:
    few = settings.model_copy(update={"sockets_per_user": 4})
    async with running_node(few) as node, running_node(few) as other:
        theirs = [await device().connect(url) for url in (node.url, other.url, node.url, other.url)]
        await asyncio.gather(*(running.node._announcer.settle() for running in (node, other)))
        late = device()
        with pytest.raises(socketio.exceptions.ConnectionError):
            await late.connect(node.url)
        assert late.refusal["data"]["code"] == "too_many_sockets"
        assert "4" in late.refusal["data"]["detail"]
        assert refusals(node, "too_many_sockets") == 1
        await device().connect(node.url, "u_2")
        await theirs[1].client.disconnect()
        await eventually(lambda: len(other.node._registry) == 1)
        await other.node._announcer.settle()
        await device().connect(node.url)


async def test_sockets_that_come_at_once_are_counted_all_the_same(settings: Settings, device: Make) -> None:
    async with running_node(settings.model_copy(update={"sockets_per_user": 4})) as node:
        await device().connect(node.url)
        results = await asyncio.gather(*(device().connect(node.url) for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(result, socketio.exceptions.ConnectionError) for result in results) == 17
        assert len(node.node._registry) == 4


# --- clients that hardly read ----------------------------------------------------------------------------------------


async def test_a_client_that_reads_one_frame_a_second_is_closed_and_misses_nothing(
    node: Running, device: Make, arrive: Arrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_STUCK_S", 2.0)
    slow = await device().connect(node.url)
    (held,) = node.node._registry.of_user("default/u_1")
    transport = slow.client.eio.ws._response.connection.transport
    drops = {"node": node.node.name, "reason": "slow_consumer"}
    before = REGISTRY.get_sample_value("bellhop_drops_total", drops) or 0.0
    sent = 0

    async def read_a_little() -> None:
        while not held.closed:
            transport.pause_reading()
            await asyncio.sleep(1.0)
            transport.resume_reading()
            await asyncio.sleep(0)

    reading = asyncio.create_task(read_a_little())
    async with asyncio.timeout(60):
        while not held.closed:
            await arrive(how_many=50, body="x" * 4_000)
            sent += 50
    await reading
    assert REGISTRY.get_sample_value("bellhop_drops_total", drops) == before + 1
    await eventually(lambda: not slow.client.connected)
    back = device()
    back.replica.items = slow.replica.items
    held_until = slow.replica.seq
    assert held_until < sent
    await back.connect(node.url, since=held_until)
    assert back.ready["seq"] == held_until
    await back.reach(sent)
