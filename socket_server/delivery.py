"""Stage 5: frames of inboxes to sockets, strictly in order and without a gap on every connection.

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
from models.states import Priority
from socket_server.registry import Pending
from socket_server.replay import PAUSE_S, Source

if TYPE_CHECKING:
    from models.inbox import Head, InboxStore
    from models.push import Push
    from socket_server.announcer import Announcer
    from socket_server.registry import Connection, Registry, Stream
    from socket_server.replay import Replay
    from socket_server.server import Server

log = structlog.get_logger(__name__)

_HEADS_PER_QUERY = 2_000


class Delivery:
    """Owns what of inboxes is sent to connections, and when."""

    def __init__(  # the composition root hands over each part by name
        self,
        *,
        server: Server,
        registry: Registry,
        inbox: InboxStore,
        announcer: Announcer,
        replay: Replay,
        node: str,
    ) -> None:
        self._server = server
        self._registry = registry
        self._inbox = inbox
        self._announcer = announcer
        self._replay = replay
        self._node = node
        self._source = Source("inbox", inbox.page, self._close_too_far_behind)
        self._frames = telemetry.frames_sent.labels(node, "inbox")
        self._pushed = [telemetry.pushed.labels(node, str(priority)) for priority in Priority]
        self._push_seconds = [telemetry.push_seconds.labels(str(priority)) for priority in Priority]

    # --- one push --------------------------------------------------------------------------------------------

    def on_push(self, push: Push) -> None:
        """Give a push to all of its user's connections here."""
        for connection in list(self._registry.of_user(push.key)):
            self._offer(connection.inbox, push)

    def _offer(self, stream: Stream, push: Push) -> None:
        stream.known_head = max(stream.known_head, push.last)
        if not stream.live:
            return
        if push.last <= stream.sent:
            telemetry.drops.labels(self._node, "duplicate").inc()
        elif push.first != stream.sent + 1:
            self._replay.catch_up(stream, self._source, "gap")
        elif stream.connection.outgoing.full_to(1.0):
            self._replay.catch_up(stream, self._source, "slow")
        else:
            self._server.send(stream.connection, push.packet)
            stream.sent = push.last
            self._frames.inc()
            if 0 <= push.priority < len(self._pushed):
                self._pushed[push.priority].inc()
                self._push_seconds[push.priority].observe(max(0.0, time.time() - push.accepted_at))
                stream.connection.pending.append(Pending(push.last, push.priority, push.accepted_at))

    # --- the beginning ---------------------------------------------------------------------------------------

    def begin(self, connection: Connection) -> None:
        """Bring a new connection to the head and make it live."""
        self._replay.start(connection.inbox, self._begin(connection))

    async def _begin(self, connection: Connection) -> None:
        # First Redis, then the head: what is committed after the head was read finds this node in Redis.
        await self._announcer.update(connection.key)
        while not connection.closed:
            try:
                head = await self._inbox.head((connection.token.tenant, connection.token.user))
                break
            except UnavailableError:
                await asyncio.sleep(PAUSE_S)
        if connection.closed:
            return
        since, stream = connection.since, connection.inbox
        reset = since is not None and (since > head.head or since < head.floor)
        stream.sent = head.head if since is None or reset else since
        self._send_ready(connection, head, reset=reset)
        stream.known_head = max(stream.known_head, head.head)
        if stream.known_head > stream.sent:
            await self._replay.to_head(stream, self._source)
        else:
            stream.live = True

    def _send_ready(self, connection: Connection, head: Head, *, reset: bool) -> None:
        body = {
            "user": connection.token.user,
            "seq": connection.inbox.sent,
            "head": head.head,
            "counts": {"unread": head.unread, "unseen": head.unseen},
            "reset": reset,
            "session": connection.session,
            "server_time": datetime.now(UTC),
            "expires_at": connection.token.expires_at,
        }
        self._server.send(connection, event_packet("ready", dumps(body)))
        connection.ready = True
        telemetry.frames_sent.labels(self._node, "ready").inc()

    def _close_too_far_behind(self, stream: Stream) -> None:
        """Close. What it needs is no longer kept; when it comes back it is told so, and fetches its list again."""
        log.info("closing a connection that is too far behind", session=stream.connection.session, sent=stream.sent)
        self._server.close_soon(stream.connection.eio_sid)

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
                    repaired += self._check(connection.inbox, head.head, at_once=at_once)
        return repaired

    def _check(self, stream: Stream, head: int, *, at_once: bool) -> bool:
        if not stream.live or stream.sent >= head:
            stream.behind_since_check = 0
            return False
        if at_once or stream.sent < stream.behind_since_check:
            stream.behind_since_check = 0
            self._replay.catch_up(stream, self._source, "check")
            return True
        stream.behind_since_check = head
        return False
