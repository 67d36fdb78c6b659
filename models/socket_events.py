"""One class per message on a socket. AsyncAPI is generated from these; what REST and sockets share is in `contracts`.

A `Frame` is what the server sends by itself; `In` is what a client sends, and `Out` the answer to it where it worked.
`SERVER_EVENTS` and `CLIENT_EVENTS` at the end list them all by the names of their events.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from models.contracts import ActionIn, ActionOut, Answer, Counts, Entry, LogPage, Message, PresenceOut, RoomEntry
from models.fields import MAX_LOG_PAGE, Name, Seq, Users

_AT = "2026-03-01T12:00:00.250000Z"
_LATER = "2026-03-01T13:00:00Z"
_COUNTS = {"unread": 3, "unseen": 1}


def _example(**values: Any) -> ConfigDict:  # noqa: ANN401  # JSON is anything
    return ConfigDict(json_schema_extra={"examples": [values]})


_ITEM = {
    "seq": 58,
    "id": "019cc2ab-5d2a-7c1e-9f0a-2b7d5c1e4f00",
    "type": "shop.order.shipped",
    "domain": "shop",
    "priority": "high",
    "title": "Order 42 is on its way",
    "body": "It arrives on Friday.",
    "data": {"order_id": 42},
    "action_url": "/orders/42",
    "actor": None,
    "collapse_key": None,
    "collapsed": 0,
    "silent": False,
    "created_at": _AT,
    "seen_at": None,
    "read_at": None,
    "archived_at": None,
    "expires_at": None,
}
_ENTRIES = [
    {"seq": 58, "kind": "arrival", "item": _ITEM},
    {"seq": 59, "kind": "change", "action": "read", "seqs": [12, 14], "at": _AT},
]

# --- server to client ------------------------------------------------------------------------------------------------


class ReadyFrame(Answer):
    """Sent first, and once: where this connection goes on from.

    `seq` is the client's `since`, or the head where it gave none. `reset`: what comes after `since` is no longer all
    kept, or `since` is beyond the head; `seq` is then the head, and the client fetches its list again.
    """

    model_config = _example(
        user="u_1",
        seq=57,
        head=60,
        counts=_COUNTS,
        reset=False,
        session="q3yF0m8cXKZ1dE2v",
        server_time=_AT,
        expires_at=_LATER,
    )

    user: str
    seq: int
    head: int
    counts: Counts
    reset: bool
    session: str
    server_time: datetime
    expires_at: datetime


class InboxFrame(Answer):
    """Entries of the inbox. On one connection, `from` is always the last `to` + 1; the first follows `ready.seq`.

    A number that no entry stands for is that of an arrival which has been deleted since.
    """

    model_config = _example(**{"from": 58, "to": 59}, entries=_ENTRIES, counts=_COUNTS)

    from_: int = Field(alias="from")
    to: int
    entries: list[Entry]
    counts: Counts


class RoomFrame(Answer):
    """Events of a room that the client has joined. `from` is always the last `to` + 1, for each room by itself."""

    model_config = _example(
        room="shop:order:42",
        **{"from": 7, "to": 7},
        entries=[{"seq": 7, "event": "order.updated", "data": {"status": "packed"}, "at": _AT}],
    )

    room: str
    from_: int = Field(alias="from")
    to: int
    entries: list[RoomEntry]


class PresenceFrame(PresenceOut):
    """A user whom the client watches came, went, or turned away from all devices."""

    model_config = _example(user="u_2", status="offline", last_seen_at=_AT)

    user: str


class ErrorFrame(Answer):
    """What the client sent as `event` was refused; where `event` is null, it was not an event that made trouble.

    `token_expired`, `token_revoked` and `slow_consumer` come last: the connection is closed, and so it is after a
    `rate_limited` without an event. `room` names the room that the connection is not in, or no longer, `user` whom it
    does not watch, or no longer; `retry_in_ms` comes with `rate_limited`.
    """

    model_config = _example(code="rate_limited", detail="At most 100 events a second", event="sync", retry_in_ms=10)

    code: str
    detail: str
    event: str | None
    room: str | None = None
    user: str | None = None
    retry_in_ms: int | None = None


class ExpiringFrame(Answer):
    """The token ends then, and the connection some seconds later; send `refresh` before."""

    model_config = _example(expires_at=_LATER)

    expires_at: datetime


class DrainFrame(Answer):
    """The node goes away, and closes the connection in a moment; connect again after so long, with `since`."""

    model_config = _example(reconnect_in_ms=1840)

    reconnect_in_ms: int


# --- client to server ------------------------------------------------------------------------------------------------


class Handshake(Message):
    """The `auth` of a connection. With `since`, it goes on after that number of the inbox."""

    model_config = _example(token="eyJhbGciOiJIUzI1NiIs…", since=57)  # noqa: S106  # no token

    token: str
    since: Seq | None = None


class AckIn(Message):
    """Everything in the inbox up to `seq` is safely with the client. Cumulative; a smaller one changes nothing."""

    model_config = _example(seq=60)

    seq: Seq


class SyncIn(Message):
    """Asks for a page of the inbox's log, after `since`."""

    model_config = _example(since=57, limit=100)

    since: Seq
    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_LOG_PAGE)] = MAX_LOG_PAGE


class JoinIn(Message):
    """Follow a room, after the number `since`, or from now on. Joining again goes on from there instead."""

    model_config = _example(room="shop:order:42", since=6)

    room: Name
    since: Seq | None = None


class LeaveIn(Message):
    """Follow a room no longer. It does not matter whether the client did."""

    model_config = _example(room="shop:order:42")

    room: Name


class WatchIn(Message):
    """Be told of these users' presence. At most 100 users on one connection."""

    model_config = _example(users=["u_2", "u_3"])

    users: Users


class UnwatchIn(Message):
    """Be told of these users' presence no longer. It does not matter whether the client was."""

    model_config = _example(users=["u_3"])

    users: Users


class StatusIn(Message):
    """Whether somebody is at this device. A new connection is `online`; a user who is away from all is `away`."""

    model_config = _example(status="away")

    status: Literal["online", "away"]


class RefreshIn(Message):
    """A new token of the same user, for this connection. Rooms and users that it does not grant are left."""

    model_config = _example(token="eyJhbGciOiJIUzI1NiIs…")  # noqa: S106  # no token

    token: str


class Out(Answer):
    """It worked."""

    model_config = _example(ok=True)

    ok: Literal[True]


class SyncOut(Out, LogPage):
    """A page of the log, as `GET /v1/inbox/log` answers it."""

    model_config = _example(ok=True, **{"from": 58, "to": 59}, head=60, reset=False, entries=_ENTRIES, counts=_COUNTS)


class ActOut(Out, ActionOut):
    """The inbox after the action. `changed` counts deliveries; where it is 0, there is no new entry."""

    model_config = _example(ok=True, seq=61, changed=1, counts=_COUNTS)


class JoinOut(Out):
    """Where the connection goes on from in this room: `since`, or the head where it was not given or is a `reset`."""

    model_config = _example(ok=True, seq=6, head=7, reset=False)

    seq: int
    head: int
    reset: bool


class WatchOut(Out):
    """The presence of the users in question, as it is at this moment."""

    model_config = _example(
        ok=True,
        users={"u_2": {"status": "online", "last_seen_at": _AT}, "u_3": {"status": "offline", "last_seen_at": None}},
    )

    users: dict[str, PresenceOut]


class RefreshOut(Out):
    """When the new token ends."""

    model_config = _example(ok=True, expires_at=_LATER)

    expires_at: datetime


class SocketError(Answer):
    """Why something was refused. Some codes bring more: `room`, `user`, `retry_in_ms`."""

    model_config = ConfigDict(extra="allow")

    code: str
    detail: str


class Refused(Answer):
    """It did not work, and nothing was changed."""

    _DETAIL: ClassVar[str] = "The token does not grant the room shop:order:42; ask your backend for one that does"
    model_config = _example(ok=False, error={"code": "not_granted", "detail": _DETAIL, "room": "shop:order:42"})

    ok: Literal[False]
    error: SocketError


SERVER_EVENTS: dict[str, type[Answer]] = {
    "ready": ReadyFrame,
    "inbox": InboxFrame,
    "room": RoomFrame,
    "presence": PresenceFrame,
    "error": ErrorFrame,
    "expiring": ExpiringFrame,
    "drain": DrainFrame,
}
CLIENT_EVENTS: dict[str, tuple[type[Message], type[Out]]] = {
    "ack": (AckIn, Out),
    "sync": (SyncIn, SyncOut),
    "act": (ActionIn, ActOut),
    "join": (JoinIn, JoinOut),
    "leave": (LeaveIn, Out),
    "watch": (WatchIn, WatchOut),
    "unwatch": (UnwatchIn, Out),
    "status": (StatusIn, Out),
    "refresh": (RefreshIn, RefreshOut),
}
