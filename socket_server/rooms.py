"""Rooms on this node: who has joined which, and one frame to all of them for whatever happened in the meantime.

Frames go out to a room's members together: the first event at once, what follows within `room_frame_interval_s` as one
frame. What is missing is read from Postgres once for the whole room. Only a member that is behind the others, because
it joined with an older number or does not read, is caught up by itself.

Invariant: a live member was put everything up to `Room.sent`, or is about to be in the broadcast that is under way.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from models import telemetry
from models.errors import NotGrantedError, RoomResetError, TooManyRoomsError, UnavailableError
from models.frames import event_packet, room_frame
from models.grants import granted
from models.pages import MAX_PAGE_BYTES
from models.redis_keys import room_key
from socket_server.outgoing import Prepared
from socket_server.registry import Stream
from socket_server.replay import PAUSE_S, Source

if TYPE_CHECKING:
    from models.push import Push
    from models.rooms import RoomStore
    from models.settings import Settings
    from models.socket_events import JoinIn
    from socket_server.announcer import Announcer, Holdings
    from socket_server.registry import Connection
    from socket_server.replay import Replay
    from socket_server.server import Server

log = structlog.get_logger(__name__)

_SLICE = 256  # sockets, until inboxes have their turn
_CROSSING_S = 0.03  # pushes of two processes that crossed: the missing one is about to come
_PAGE = 500
_MOST_WAITING_BYTES = 8 * MAX_PAGE_BYTES
_HEADS_PER_QUERY = 2_000


@dataclass(slots=True, eq=False)
class Room:
    """A room that somebody here has joined. `sent` is the last number that was broadcast; None until it was read."""

    key: str
    tenant: str
    name: str
    members: set[Stream] = field(default_factory=set)
    sent: int | None = None
    waiting: list[Push] = field(default_factory=list)
    waiting_bytes: int = 0
    head: int = 0  # as the last check found it
    behind_since_check: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def is_behind(self) -> bool:
        """Whether there is something to send."""
        return self.sent is not None and (bool(self.waiting) or self.head > self.sent)

    def take(self, push: Push) -> None:
        """Keep a push until its turn comes; where too much waits, Postgres has it."""
        self.waiting.append(push)
        self.waiting_bytes += len(push.packet)
        if self.waiting_bytes > _MOST_WAITING_BYTES:
            self.head = max(self.head, *(each.last for each in self.waiting))
            self.waiting, self.waiting_bytes = [], 0

    def take_next(self) -> list[Push]:
        """Take, of what waits, the stretches that follow `sent` without a gap; drop what was sent before."""
        last, size = self.sent or 0, 0
        taken: list[Push] = []
        left: list[Push] = []
        for push in sorted(self.waiting, key=lambda push: push.first):
            if push.first == last + 1 and (not taken or size + len(push.packet) <= MAX_PAGE_BYTES):
                taken.append(push)
                last, size = push.last, size + len(push.packet)
            elif push.last > last:
                left.append(push)
        self.waiting, self.waiting_bytes = left, sum(len(push.packet) for push in left)
        return taken


class Rooms:
    """All rooms of this node."""

    def __init__(  # the composition root hands over each part by name
        self,
        *,
        settings: Settings,
        server: Server,
        store: RoomStore,
        holdings: Holdings,
        announcer: Announcer,
        replay: Replay,
        node: str,
    ) -> None:
        self._server = server
        self._store = store
        self._holdings = holdings
        self._announcer = announcer
        self._replay = replay
        self._node = node
        self._interval_s = settings.room_frame_interval_s
        self._most = settings.rooms_per_connection
        self._source = Source("room", store.page, self._reset)
        self._rooms: dict[str, Room] = {}
        self._frames = telemetry.frames_sent.labels(node, "room")
        telemetry.rooms_held.labels(node).set_function(lambda: len(self._rooms))
        telemetry.room_members.labels(node).set_function(
            lambda: sum(len(room.members) for room in list(self._rooms.values()))
        )

    # --- who is in -------------------------------------------------------------------------------------------

    async def join(self, connection: Connection, wanted: JoinIn) -> dict[str, Any]:
        """Let a connection follow a room from `since` or from now on, in place of what it followed of it before.

        Raises `NotGrantedError`, `TooManyRoomsError`, `UnavailableError`.
        """
        if not granted(connection.token.rooms, wanted.room):
            raise _not_granted(wanted.room)
        if wanted.room not in connection.rooms and len(connection.rooms) >= self._most:
            detail = f"A connection may be in {self._most} rooms at once; leave one, or open another connection"
            raise TooManyRoomsError(detail, extra={"room": wanted.room})
        stream, room = self._enter(connection, wanted.room)
        try:
            # First Redis, then the head: what is committed after the head was read finds this node in Redis.
            await self._announcer.update(room.key)
            head = await self._store.head((stream.tenant, stream.name))
        except (UnavailableError, asyncio.CancelledError):
            self._remove(stream)
            raise
        if connection.closed:
            self._remove(stream)
            raise _not_granted(wanted.room)
        if (before := connection.rooms.get(wanted.room)) is not None:
            self._remove(before)
        connection.rooms[wanted.room] = stream
        since = wanted.since
        reset = since is not None and (since > head.head or since < head.floor)
        stream.sent = head.head if since is None or reset else since
        stream.known_head = max(stream.known_head, head.head)
        if room.sent is None:
            room.sent = head.head
            self._send_soon(room)
        if stream.known_head > stream.sent:
            self._replay.start(stream, self._replay.to_head(stream, self._source))
        else:
            stream.live = True
        return {"seq": stream.sent, "head": head.head, "reset": reset}

    def _enter(self, connection: Connection, name: str) -> tuple[Stream, Room]:
        """Let the room know of a new stream, which is not the connection's yet: it may have one already."""
        tenant = connection.token.tenant
        stream = Stream(connection, room_key(tenant, name), tenant, name)
        room = self._rooms.get(stream.key)
        if room is None:
            room = self._rooms[stream.key] = Room(stream.key, tenant, name)
            self._holdings.hold(room.key)
        room.members.add(stream)
        return stream, room

    def leave(self, connection: Connection, name: str) -> None:
        """Let a connection follow a room no longer; where it does not, nothing happens."""
        if (stream := connection.rooms.get(name)) is not None:
            self._remove(stream)

    def forget(self, connection: Connection) -> None:
        """Take a connection out of all its rooms."""
        for stream in list(connection.rooms.values()):
            self._remove(stream)

    def leave_what_is_not_granted(self, connection: Connection) -> None:
        """Take a connection out of the rooms that its token, a new one, does not grant, and tell it."""
        for stream in list(connection.rooms.values()):
            if not granted(connection.token.rooms, stream.name):
                self._remove(stream)
                self._server.send_error(connection, _not_granted(stream.name), "join")

    def _remove(self, stream: Stream) -> None:
        stream.close()
        if stream.connection.rooms.get(stream.name) is stream:
            del stream.connection.rooms[stream.name]
        room = self._rooms.get(stream.key)
        if room is None:
            return
        room.members.discard(stream)
        if not room.members:
            del self._rooms[room.key]
            self._holdings.release(room.key)
            self._announcer.update_soon(room.key)

    def _reset(self, stream: Stream) -> None:
        """Take out a member that needs what is no longer kept. When it joins again it is told so."""
        telemetry.drops.labels(self._node, "room_reset").inc()
        self._remove(stream)
        detail = "You were too far behind in this room; fetch its state and join it again"
        self._server.send_error(stream.connection, RoomResetError(detail, extra={"room": stream.name}), "join")

    # --- what they get ---------------------------------------------------------------------------------------

    def on_push(self, push: Push) -> None:
        """Note what happened in a room; its members get it now or in a moment."""
        if (room := self._rooms.get(push.key)) is not None:
            room.take(push)
            self._send_soon(room)

    def _send_soon(self, room: Room) -> None:
        if room.task is None and room.is_behind:
            task = room.task = asyncio.create_task(self._send(room), name=f"send {room.key}")
            task.add_done_callback(lambda task: _report(room, task))

    async def _send(self, room: Room) -> None:
        """Send what waits, frame after frame, until nothing does."""
        try:
            await self._send_all(room)
        finally:
            room.task = None  # in the step that found nothing: what comes after it starts a task of its own

    async def _send_all(self, room: Room) -> None:
        while room.members and room.is_behind:
            began = time.monotonic()
            if not (pushes := room.take_next()) and room.is_behind:
                await asyncio.sleep(_CROSSING_S)
                pushes = room.take_next()
            if pushes:
                telemetry.room_push_seconds.observe(max(0.0, time.time() - pushes[0].accepted_at))
                await self._broadcast(room, pushes[0].first, pushes[-1].last, b",".join(push.packet for push in pushes))
            elif room.is_behind:
                await self._repair(room)
            await asyncio.sleep(max(0.0, began + self._interval_s - time.monotonic()))

    async def _repair(self, room: Room) -> None:
        """Read from Postgres what did not come, once for all members."""
        assert room.sent is not None  # noqa: S101  # a room that is behind has begun
        try:
            page = await self._store.page(room.tenant, room.name, room.sent, _PAGE)
        except UnavailableError:
            await asyncio.sleep(PAUSE_S)
            return
        if page.reset and page.head > room.sent:  # this node was away for so long that nobody here can go on
            room.sent = page.head
            for stream in [stream for stream in room.members if stream.live and stream.sent < page.head]:
                self._replay.catch_up(stream, self._source, "room")
        elif page.last > room.sent:
            telemetry.repairs.labels(self._node, "room").inc()
            await self._broadcast(room, page.first, page.last, b",".join(page.entries))
        else:  # Postgres knows less than it once told: it came back from a copy
            room.head = page.head
            await asyncio.sleep(PAUSE_S)

    async def _broadcast(self, room: Room, first: int, last: int, entries: bytes) -> None:
        packet = Prepared(event_packet("room", room_frame(room.name, first, last, entries)))
        room.sent = last  # now: who becomes live from here on must have it already
        sent = 0
        for stream in list(room.members):
            if not stream.live:
                stream.known_head = max(stream.known_head, last)
            elif stream.sent == first - 1 and not stream.connection.outgoing.full_to(1.0):
                stream.connection.outgoing.send_prepared(packet)
                stream.sent = last
                sent += 1
                if sent % _SLICE == 0:
                    await asyncio.sleep(0)
            elif stream.sent < last:
                self._replay.catch_up(stream, self._source, "slow" if stream.sent == first - 1 else "gap")
        self._frames.inc(sent)

    # --- the check of heads ----------------------------------------------------------------------------------

    async def check_heads(self, *, at_once: bool = False) -> int:
        """Compare every room with Postgres, and bring those up to date that were behind at the last check too.

        `at_once`: once is enough. Returns how many rooms were behind. Raises `UnavailableError`.
        """
        rooms = [room for room in self._rooms.values() if room.sent is not None]
        repaired = 0
        for start in range(0, len(rooms), _HEADS_PER_QUERY):
            some = rooms[start : start + _HEADS_PER_QUERY]
            heads = await self._store.heads([(room.tenant, room.name) for room in some])
            for room, head in zip(some, heads, strict=True):
                repaired += self._check(room, head.head, at_once=at_once)
        return repaired

    def _check(self, room: Room, head: int, *, at_once: bool) -> bool:
        sent = room.sent or 0
        if sent >= head:
            room.behind_since_check = 0
            return False
        if at_once or sent < room.behind_since_check:
            room.behind_since_check = 0
            room.head = head
            self._send_soon(room)
            return True
        room.behind_since_check = head
        return False


def _report(room: Room, task: asyncio.Task[None]) -> None:
    """Say what nobody foresaw; the next push or check of heads goes on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a room's frames failed", room=room.key, exc_info=error)


def _not_granted(room: str) -> NotGrantedError:
    detail = f"The token does not grant the room {room}; ask your backend for one that does"
    return NotGrantedError(detail, extra={"room": room})
