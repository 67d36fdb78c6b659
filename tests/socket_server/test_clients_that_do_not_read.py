"""A client that does not read misses nothing, takes no more memory than it may, and keeps nothing from ending."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from socket_server import outgoing, serving
from socket_server.outgoing import MOST_BYTES
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    import pytest

    from models.settings import Settings
    from socket_server import registry
    from tests.socket_server.conftest import Arrive, Device, Make, Running


async def deafened(node: Running, one: Device, arrive: Arrive) -> tuple[registry.Connection, asyncio.Transport]:
    """Let a client read nothing more, until the node has as much for it as it keeps."""
    (held,) = node.node._registry.of_user("default/u_1")
    transport = one.client.eio.ws._response.connection.transport
    transport.pause_reading()
    async with asyncio.timeout(30):
        while held.inbox.live:
            await arrive(how_many=50, body="x" * 4_000)
    return held, transport


async def test_a_client_that_does_not_read_waits_in_postgres_and_misses_nothing(
    node: Running, device: Make, arrive: Arrive
) -> None:
    one = await device().connect(node.url)
    (held,) = node.node._registry.of_user("default/u_1")
    transport = one.client.eio.ws._response.connection.transport
    transport.pause_reading()
    sent = 0
    async with asyncio.timeout(30):
        while held.inbox.live:  # past what the kernel takes on both sides, and the node's own megabyte
            await arrive(how_many=50, body="x" * 4_000)
            sent += 50
    assert held.outgoing.waiting_bytes < 2 * MOST_BYTES
    assert one.replica.seq < sent
    transport.resume_reading()
    await one.reach(sent)
    await eventually(lambda: held.inbox.live)
    assert one.titles() == [*range(50)] * (sent // 50)


async def test_answers_wait_for_a_client_that_does_not_read(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive(how_many=50, body="x" * 4_000)
    one = await device().connect(node.url)
    (held,) = node.node._registry.of_user("default/u_1")
    transport = one.client.eio.ws._response.connection.transport
    transport.pause_reading()
    for _ in range(100):
        await one.client.emit("sync", {"since": 0}, callback=lambda _: None)
    await eventually(lambda: held.outgoing.full_to(0.5))
    await asyncio.sleep(0.5)
    assert held.outgoing.waiting_bytes < 2 * MOST_BYTES
    transport.resume_reading()
    assert (await one.call("sync", {"since": 49}))["to"] == 50


async def test_a_client_that_does_not_read_is_closed_all_the_same(
    node: Running, device: Make, arrive: Arrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "_END_S", 0.2)
    one = await device().connect(node.url)
    held, transport = await deafened(node, one, arrive)
    assert node.server.server_state.connections
    await node.node._server.close(held.eio_sid)
    await eventually(lambda: not node.server.server_state.connections)
    assert held.closed
    transport.resume_reading()


async def test_a_client_that_does_not_read_keeps_no_node_from_ending(
    settings: Settings, device: Make, arrive: Arrive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "_CLOSE_S", 0.2)
    async with running_node(settings) as node:
        one = await device().connect(node.url)
        _, transport = await deafened(node, one, arrive)
    assert not node.server.server_state.connections
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    transport.abort()
