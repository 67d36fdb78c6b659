"""One class per message on a socket. AsyncAPI is generated from these; what REST and sockets share is in `contracts`.

`In` is what a client sends and `Out` the answer to it; a `Frame` is what the server sends by itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from models.contracts import Answer, Counts, Entry, Message, PresenceOut, RoomEntry
from models.fields import MAX_LOG_PAGE, Name, Seq, Watched
from models.states import PresenceStatus

# --- server to client ------------------------------------------------------------------------------------------------


class ReadyFrame(Answer):
    """The `ready` event: where this connection goes on from."""

    user: str
    seq: int
    head: int
    counts: Counts
    reset: bool
    session: str
    server_time: datetime
    expires_at: datetime


class InboxFrame(Answer):
    """The `inbox` event: `from` is the last frame's `to` + 1."""

    from_: int = Field(alias="from")
    to: int
    entries: list[Entry]
    counts: Counts


class RoomFrame(Answer):
    """The `room` event: `from` is the last frame's `to` + 1, for each room by itself."""

    room: str
    from_: int = Field(alias="from")
    to: int
    entries: list[RoomEntry]


class PresenceFrame(PresenceOut):
    """The `presence` event: a user who is watched came, went, or turned away."""

    user: str


class ErrorFrame(Answer):
    """The `error` event: what the client sent, if it was something, and why it was refused.

    `room` names the room that the connection is no longer in; `retry_in_ms` comes with `rate_limited`.
    """

    code: str
    detail: str
    event: str | None
    room: str | None = None
    retry_in_ms: int | None = None


class ExpiringFrame(Answer):
    """The `expiring` event: the token ends then, and the connection soon after; send `refresh` before."""

    expires_at: datetime


class DrainFrame(Answer):
    """The `drain` event: this node is going away, and closes the connection soon; connect again after so long."""

    reconnect_in_ms: int


# --- client to server ------------------------------------------------------------------------------------------------


class Handshake(Message):
    """The `auth` of a connection. With `since`, it goes on after that number of the inbox."""

    token: str
    since: Seq | None = None


class AckIn(Message):
    """Client event `ack`: everything up to `seq` is safe with the client."""

    seq: Seq


class SyncIn(Message):
    """Client event `sync`: asks for a page of the inbox's log."""

    since: Seq
    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_LOG_PAGE)] = MAX_LOG_PAGE


class JoinIn(Message):
    """Client event `join`: follow a room, after the number `since`, or from now on."""

    room: Name
    since: Seq | None = None


class LeaveIn(Message):
    """Client event `leave`: follow a room no longer."""

    room: Name


class WatchIn(Message):
    """Client events `watch` and `unwatch`: be told of these users' presence, or no longer."""

    users: Watched


class StatusIn(Message):
    """Client event `status`: whether somebody is at this device. A new connection is `online`."""

    status: Literal[PresenceStatus.ONLINE, PresenceStatus.AWAY]


class RefreshIn(Message):
    """Client event `refresh`: a new token of the same user, for this connection."""

    token: str


class Out(Answer):
    """An answer that says only that it worked."""

    ok: Literal[True]


class JoinOut(Out):
    """Where the connection goes on from in this room: `since`, or the head where it was not given or is a `reset`."""

    seq: int
    head: int
    reset: bool


class WatchOut(Out):
    """The presence of the users who are watched now, as it is at this moment."""

    users: dict[str, PresenceOut]


class RefreshOut(Out):
    """When the new token ends."""

    expires_at: datetime
