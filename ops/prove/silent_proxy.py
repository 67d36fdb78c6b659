"""A network between clients and a socket node that can be cut as a cable is: nothing passes, and nobody is told.

Invariant: what is silenced neither forwards nor closes, in both directions, until the proxy itself is closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_PORTION = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset, as a host does that knows nothing of a connection


class _Pair:
    """One client's connection and the one behind it."""

    def __init__(self, client: asyncio.StreamWriter, node: asyncio.StreamWriter) -> None:
        self.silent = False
        self._writers = (client, node)

    def abort(self) -> None:
        for writer in self._writers:
            abort(writer.transport)


class SilentProxy:
    """Listens on a port of its own and passes everything on to `url`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self._server: asyncio.Server | None = None
        self._pairs: dict[int, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_PORTION)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def silence(self, ports: Iterable[int]) -> int:
        """Cut the connections that come from these ports, and return how many of them there were."""
        pairs = [pair for port in ports if (pair := self._pairs.get(port)) is not None and not pair.silent]
        for pair in pairs:
            pair.silent = True
        return len(pairs)

    async def close(self) -> None:
        """End everything, what is silenced, too."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        try:
            node_reader, node_writer = await asyncio.open_connection(*self._to, limit=_PORTION)
        except OSError:  # the node is down: the client learns it as it would without us
            abort(writer.transport)
            return
        pair = self._pairs[port] = _Pair(writer, node_writer)
        pumps = [
            asyncio.create_task(_pump(reader, node_writer, pair)),
            asyncio.create_task(_pump(node_reader, writer, pair)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            pair.abort()
            if self._pairs.get(port) is pair:
                del self._pairs[port]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
    """Pass on what is read until either side ends; once the pair is silent, end never."""
    with suppress(OSError):  # reset by one side: the pair ends, and with it the other side
        while portion := await reader.read(_PORTION):
            if pair.silent:
                break
            writer.write(portion)
            await writer.drain()
    if pair.silent:
        await asyncio.Event().wait()


def abort(transport: asyncio.WriteTransport) -> None:
    """Close a connection at once and let the other side know by a reset."""
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
