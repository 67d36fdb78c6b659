"""How a stream that is behind gets to the head: page after page from Postgres, no faster than its client reads.

Invariant: a stream becomes live in the very step in which it is found to be at the head, so no push falls in between.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from models import telemetry
from models.errors import SlowConsumerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from models.pages import Page
    from socket_server.registry import Connection, Stream
    from socket_server.server import Server

log = structlog.get_logger(__name__)

_PAGE = 100
_STUCK_S = 20.0
_LOOK_S = 0.1
PAUSE_S = 0.5  # before Postgres is asked again


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of log: the event that carries it, how to read it, and what becomes of a stream that is too far behind.

    `page` takes a tenant, a name, a number and a size. Raises `UnavailableError`.
    """

    event: str
    page: Callable[[str, str, int, int], Awaitable[Page]]
    too_far_behind: Callable[[Stream], None]


class Replay:
    """Runs what brings streams to the head."""

    def __init__(self, server: Server, node: str) -> None:
        self._server = server
        self._node = node

    def catch_up(self, stream: Stream, source: Source, reason: str) -> None:
        """Take a live stream off pushes and bring it to the head from Postgres."""
        stream.live = False
        telemetry.repairs.labels(self._node, reason).inc()
        self.start(stream, self.to_head(stream, source))

    def start(self, stream: Stream, work: Coroutine[None, None, None]) -> None:
        """Do a stream's work in the background."""
        task = stream.task = asyncio.create_task(work, name=f"{stream.key} {stream.connection.session}")
        task.add_done_callback(lambda task: self._on_end(stream, task))

    def _on_end(self, stream: Stream, task: asyncio.Task[None]) -> None:
        """Close a connection whose stream broke for a reason that nobody foresaw: the client comes back and goes on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        telemetry.drops.labels(self._node, "failed").inc()
        log.error("a stream failed", session=stream.connection.session, task=task.get_name(), exc_info=error)
        self._server.close_soon(stream.connection.eio_sid)

    async def to_head(self, stream: Stream, source: Source) -> None:
        """Send pages until the stream is at the head, and make it live."""
        while not (stream.closed or stream.live):
            async with stream.connection.reading:  # its other streams wait: together they would pass its bounds
                if not await self.has_room(stream.connection):
                    return
                got_on = await self._send_page(stream, source)
            if not got_on:
                await asyncio.sleep(PAUSE_S)

    async def _send_page(self, stream: Stream, source: Source) -> bool:
        """Send what comes next, and make the stream live where that is all. False where it is better to wait a bit."""
        try:
            page = await source.page(stream.tenant, stream.name, stream.sent, _PAGE)
        except UnavailableError:
            return False
        if stream.closed:
            return True
        if page.reset:
            source.too_far_behind(stream)
            stream.closed = True
            return True
        got_on = page.last > stream.sent
        if got_on:
            self._server.send(stream.connection, page.packet())
            telemetry.frames_sent.labels(self._node, source.event).inc()
            stream.sent = page.last
        # Where Postgres knows less than it once told, it came back from a copy.
        stream.live = stream.sent >= page.head and stream.sent >= stream.known_head
        return got_on or stream.live

    async def has_room(self, connection: Connection) -> bool:
        """Wait until the client has read most of what was sent; close it, and return False, where it does not."""
        deadline = time.monotonic() + _STUCK_S
        while connection.outgoing.full_to(0.5):
            if connection.closed:
                return False
            if time.monotonic() > deadline:
                telemetry.drops.labels(self._node, "slow_consumer").inc()
                log.info(
                    "closing a client that does not read",
                    session=connection.session,
                    waiting=connection.outgoing.qsize(),
                )
                self._server.send_error(connection, SlowConsumerError(), None)  # for the case that it reads after all
                self._server.close_soon(connection.eio_sid)
                return False
            await asyncio.sleep(_LOOK_S)
        return not connection.closed
