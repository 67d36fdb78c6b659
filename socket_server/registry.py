"""Who is connected to this node. Our own, so that a disconnect costs nothing and a push finds its sockets by user.

Invariant: a connection is in the registry from its accepted handshake until it leaves or its transport is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

from models.redis_keys import user_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from engineio.async_socket import AsyncSocket

    from models.tokens import UserToken
    from socket_server.outgoing import Outgoing
    from socket_server.rate import TokenBucket

_MOST_PENDING = 512


class Pending(NamedTuple):
    """A frame that the client has not acknowledged yet."""

    last: int
    priority: int
    accepted_at: float


@dataclass(slots=True, eq=False)
class Stream:
    """One numbered log on one connection: its user's inbox, or a room. `sent` is the last number that was put to it.

    Frames go out strictly in order. While it is not `live`, they wait for `replay` to bring it to the head.
    """

    connection: Connection
    key: str  # models.redis_keys.user_key or room_key
    tenant: str
    name: str  # of the user or the room
    sent: int = 0
    known_head: int = 0  # the highest number that it was heard of
    behind_since_check: int = 0  # the head that the last check found it short of
    live: bool = False
    closed: bool = False  # it was left, or its connection is closed
    task: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Put nothing more to it."""
        self.closed = True
        self.live = False
        if self.task is not None:
            self.task.cancel()


@dataclass(slots=True, eq=False)
class Connection:
    """One socket."""

    eio_sid: str
    session: str
    token: UserToken
    transport: AsyncSocket
    since: int | None
    events: TokenBucket  # one for each client event
    refusals: TokenBucket  # one for each event that is refused; when it is empty the connection is closed
    ready: bool = False  # it was told where it goes on from; nothing comes before that
    closed: bool = False
    away: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # events are answered one after the other
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # one page at a time waits for it to have room
    outgoing: Outgoing = field(init=False)  # what waits for the client to read
    inbox: Stream = field(init=False)
    rooms: dict[str, Stream] = field(default_factory=dict)  # by name
    watched: set[str] = field(default_factory=set)  # users, by name
    pending: deque[Pending] = field(default_factory=lambda: deque(maxlen=_MOST_PENDING))
    timers: list[asyncio.TimerHandle] = field(default_factory=list)  # of its token's end

    def __post_init__(self) -> None:
        self.outgoing = cast("Outgoing", self.transport.queue)
        self.inbox = Stream(self, self.key, self.token.tenant, self.token.user)

    @property
    def key(self) -> str:
        """The user, as `models.redis_keys.user_key`."""
        return user_key(self.token.tenant, self.token.user)


class Registry:
    """All connections, by Engine.IO session and by user."""

    def __init__(self) -> None:
        self._by_eio_sid: dict[str, Connection] = {}
        self._by_user: dict[str, set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_eio_sid)

    def __contains__(self, user: str) -> bool:
        return user in self._by_user

    def add(self, connection: Connection) -> None:
        """Enter a connection."""
        self._by_eio_sid[connection.eio_sid] = connection
        self._by_user.setdefault(connection.key, set()).add(connection)

    def remove(self, eio_sid: str) -> Connection | None:
        """Take a connection out; None where it is not in."""
        connection = self._by_eio_sid.pop(eio_sid, None)
        if connection is not None:
            theirs = self._by_user[connection.key]
            theirs.discard(connection)
            if not theirs:
                del self._by_user[connection.key]
        return connection

    def of_user(self, user: str) -> Collection[Connection]:
        """Return a user's connections."""
        return self._by_user.get(user, ())

    def users(self) -> list[str]:
        """Return all users that are connected."""
        return list(self._by_user)

    def connections(self) -> Iterable[Connection]:
        """Return all connections, as they are now."""
        return list(self._by_eio_sid.values())
