"""Stage 5: frames to sockets, strictly in order and without a gap on every connection.

A push that starts at the next number goes out. An older one is a duplicate. A later one, or a number that the check of
heads finds missing, makes the connection catch up from Postgres; while it does, pushes only tell how far the head is.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from models import telemetry
from models.errors import UnavailableError
from models.frames import dumps, event_packet
from models.push import NO_PRIORITY
from models.states import Priority
from socket_server.registry import Pending

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from models.inbox import Head, InboxStore
    from models.push import Push
    from socket_server.presence import Presence
    from socket_server.registry import Connection, Registry
    from socket_server.server import Server

log = structlog.get_logger(__name__)

_PAGE = 100
_STUCK_S = 20.0
_LOOK_S = 0.1
_PAUSE_S = 0.5
_HEADS_PER_QUERY = 2_000


class Delivery:
    """Owns what is sent to connections, and when."""

    def __init__(self, server: Server, registry: Registry, inbox: InboxStore, presence: Presence, node: str) -> None:
        self._server = server
        self._registry = registry
        self._inbox = inbox
        self._presence = presence
        self._node = node
        self._frames = telemetry.frames_sent.labels(node, "inbox")
        self._pushed = [telemetry.pushed.labels(node, str(priority)) for priority in Priority]
        self._push_seconds = [telemetry.push_seconds.labels(str(priority)) for priority in Priority]

    # --- one push --------------------------------------------------------------------------------------------

    def on_push(self, push: Push) -> None:
        """Give a push to all of its user's connections here."""
        for connection in list(self._registry.of_user(push.user)):
            self._offer(connection, push)

    def _offer(self, connection: Connection, push: Push) -> None:
        connection.known_head = max(connection.known_head, push.last)
        if not connection.live:
            return
        if push.last <= connection.sent:
            telemetry.drops.labels(self._node, "duplicate").inc()
        elif push.first != connection.sent + 1:
            self.catch_up(connection, "gap")
        elif connection.outgoing.full_to(1.0):
            self.catch_up(connection, "slow")
        else:
            self._server.send(connection, push.packet)
            connection.sent = push.last
            self._frames.inc()
            if push.priority != NO_PRIORITY:
                self._pushed[push.priority].inc()
                self._push_seconds[push.priority].observe(max(0.0, time.time() - push.accepted_at))
                connection.pending.append(Pending(push.last, push.priority, push.accepted_at))

    # --- the beginning ---------------------------------------------------------------------------------------

    def begin(self, connection: Connection) -> None:
        """Bring a new connection to the head and make it live."""
        self._start(connection, self._begin(connection), "begin")

    async def _begin(self, connection: Connection) -> None:
        # First presence, then the head: what is committed after the head was read finds this node in Redis.
        await self._presence.update(connection.key)
        while not connection.closed:
            try:
                head = await self._inbox.head((connection.token.tenant, connection.token.user))
                break
            except UnavailableError:
                await asyncio.sleep(_PAUSE_S)
        if connection.closed:
            return
        since = connection.since
        reset = since is not None and (since > head.head or since < head.floor)
        connection.sent = head.head if since is None or reset else since
        self._send_ready(connection, head, reset=reset)
        connection.known_head = max(connection.known_head, head.head)
        if connection.known_head > connection.sent:
            await self._catch_up(connection)
        else:
            connection.live = True

    def _send_ready(self, connection: Connection, head: Head, *, reset: bool) -> None:
        body = {
            "user": connection.token.user,
            "seq": connection.sent,
            "head": head.head,
            "counts": {"unread": head.unread, "unseen": head.unseen},
            "reset": reset,
            "session": connection.session,
            "server_time": datetime.now(UTC),
            "expires_at": connection.token.expires_at,
        }
        self._server.send(connection, event_packet("ready", dumps(body)))
        telemetry.frames_sent.labels(self._node, "ready").inc()

    # --- catching up -----------------------------------------------------------------------------------------

    def catch_up(self, connection: Connection, reason: str) -> None:
        """Take a live connection off pushes and bring it to the head from Postgres."""
        connection.live = False
        telemetry.repairs.labels(self._node, reason).inc()
        self._start(connection, self._catch_up(connection), "catch up")

    def _start(self, connection: Connection, work: Coroutine[None, None, None], name: str) -> None:
        task = connection.task = asyncio.create_task(work, name=f"{name} {connection.session}")
        task.add_done_callback(lambda task: self._on_end(connection, task))

    def _on_end(self, connection: Connection, task: asyncio.Task[None]) -> None:
        """Close a connection whose stream broke for a reason that nobody foresaw: the client comes back and goes on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        telemetry.drops.labels(self._node, "failed").inc()
        log.error("a stream failed", session=connection.session, task=task.get_name(), exc_info=error)
        self._server.start_background_task(self._server.close, connection.eio_sid)

    async def _catch_up(self, connection: Connection) -> None:
        token = connection.token
        while not connection.closed:
            if not await self.has_room(connection):
                return
            try:
                page = await self._inbox.page(token.tenant, token.user, connection.sent, _PAGE)
            except UnavailableError:
                await asyncio.sleep(_PAUSE_S)
                continue
            if connection.closed:
                return
            if page.reset:
                # What it still needs is no longer kept. When it comes back it is told so, and fetches its list again.
                log.info("closing a connection that is too far behind", session=connection.session, floor=page.head)
                await self._server.close(connection.eio_sid)
                return
            if page.last > connection.sent:
                self._server.send(connection, event_packet("inbox", page.as_frame()))
                self._frames.inc()
                connection.sent = page.last
            elif connection.known_head > page.head:  # Postgres knows less than it once told: it came back from a copy
                await asyncio.sleep(_PAUSE_S)
            if connection.sent >= page.head and connection.sent >= connection.known_head:
                connection.live = True  # nothing awaited since the comparison: no push can fall in between
                return

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
                await self._server.close(connection.eio_sid)
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    # --- the check of heads ----------------------------------------------------------------------------------

    async def check_heads(self, *, at_once: bool = False) -> int:
        """Compare every live connection with Postgres and repair those that were behind at the last check too.

        A push on its way is not a loss: hence twice. `at_once`: pushes were lost for certain, so once is enough.
        Returns how many repairs it began. Raises `UnavailableError`.
        """
        users = self._registry.users()
        repaired = 0
        for start in range(0, len(users), _HEADS_PER_QUERY):
            some = users[start : start + _HEADS_PER_QUERY]
            pairs = [(tenant, user) for tenant, _, user in (key.partition("/") for key in some)]
            for key, head in zip(some, await self._inbox.heads(pairs), strict=True):
                for connection in list(self._registry.of_user(key)):
                    repaired += self._check(connection, head.head, at_once=at_once)
        return repaired

    def _check(self, connection: Connection, head: int, *, at_once: bool) -> bool:
        if not connection.live or connection.sent >= head:
            connection.behind_since_check = 0
            return False
        if at_once or connection.sent < connection.behind_since_check:
            connection.behind_since_check = 0
            self.catch_up(connection, "check")
            return True
        connection.behind_since_check = head
        return False
