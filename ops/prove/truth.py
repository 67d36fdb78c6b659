"""What the database says of a whole seed, read at once when nothing moves any more. Thin: it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from psycopg.rows import dict_row

from models.frames import dumps
from models.states import Priority

if TYPE_CHECKING:
    from datetime import datetime

_CONNECT_S = 5
_NOTIFICATIONS = """
SELECT id::text, priority, audience, idempotency_key AS key, deliver_at, expires_at FROM notification
"""
_DELIVERIES = """
SELECT i.user_id AS "user", d.seq, d.notification_id::text AS id, d.delivered_at,
       d.read_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL AS unread,
       d.seen_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL AS unseen,
       d.deleted_at IS NOT NULL AS deleted
FROM delivery d JOIN inbox i ON i.id = d.inbox_id ORDER BY i.user_id, d.seq
"""
_CHANGES = """
SELECT i.user_id AS "user", c.seq, c.action FROM inbox_change c JOIN inbox i ON i.id = c.inbox_id
"""
_INBOXES = 'SELECT user_id AS "user", last_seq, unread, unseen FROM inbox'
_ROOMS = """
SELECT r.name AS room, r.last_seq, e.seq, e.event, e.data, e.at, e.idempotency_key AS key
FROM room r LEFT JOIN room_event e ON e.room_id = r.id ORDER BY r.name, e.seq
"""
_ROOM_HEADS = "SELECT name AS room, last_seq FROM room"
_TOPICS = """
SELECT topic, array_agg(user_id ORDER BY user_id COLLATE "C") AS users FROM topic_subscription GROUP BY topic
"""
_EVENTS = "SELECT notification_id::text AS id, event, at FROM notification_event"
_SUPPRESSED = 'SELECT notification_id::text AS id, user_id AS "user", rule FROM suppression'
_PARKED = "SELECT notification_id::text AS id, reason FROM parked"
_OUTBOX = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM expiry) AS waiting"
_WAITING = """
SELECT priority, count(*) AS rows FROM (SELECT priority FROM outbox UNION ALL SELECT priority FROM expiry) w
GROUP BY priority ORDER BY priority
"""


@dataclass(frozen=True, slots=True)
class Notification:
    """One row of `notification`."""

    key: str | None
    users: tuple[str, ...]
    priority: str
    deliver_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row of `delivery`."""

    user: str
    seq: int
    id: str
    delivered_at: datetime
    unread: bool
    unseen: bool
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One row of `inbox_change`."""

    user: str
    seq: int
    action: str


@dataclass(frozen=True, slots=True)
class Inbox:
    """One row of `inbox`."""

    user: str
    last_seq: int
    unread: int
    unseen: int


@dataclass(frozen=True, slots=True)
class Event:
    """One row of `notification_event`."""

    id: str
    event: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Suppression:
    """One row of `suppression`."""

    id: str
    user: str
    rule: str


@dataclass(slots=True)
class Room:
    """One row of `room`, with its events as clients see them, and the keys that they were said with."""

    last_seq: int
    entries: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@dataclass(slots=True)
class Truth:
    """Everything."""

    notifications: dict[str, Notification] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    inboxes: dict[str, Inbox] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    suppressions: list[Suppression] = field(default_factory=list)
    parked: dict[str, str] = field(default_factory=dict)
    outbox: int = 0
    rooms: dict[str, Room] = field(default_factory=dict)

    @property
    def expired(self) -> list[Event]:
        """The events of those that expired."""
        return [event for event in self.events if event.event == "expired"]

    @property
    def dispatched(self) -> set[str]:
        """The notifications that reached somebody, or would have if nobody had refused them."""
        return {delivery.id for delivery in self.deliveries} | {each.id for each in self.suppressions}

    @property
    def cancelled(self) -> set[str]:
        """The notifications that were cancelled."""
        return {event.id for event in self.events if event.event == "cancelled"}

    def counts(self) -> dict[str, int]:
        """Return what the metrics count."""
        return {
            "accepted": len(self.notifications),
            "dispatched": len(self.dispatched),
            "deliveries": len(self.deliveries),
            "expired": len(self.expired),
        }


async def connect(url: str) -> psycopg.AsyncConnection[dict[str, Any]]:
    """Open a connection of the proof's own, known by its name. Raises `psycopg.OperationalError`."""
    return await psycopg.AsyncConnection.connect(
        url, autocommit=True, row_factory=dict_row, connect_timeout=_CONNECT_S, application_name="bellhop prove"
    )


async def read(database_url: str) -> Truth:
    """Read the database. Raises `psycopg.OperationalError`."""
    async with await connect(database_url) as database:

        async def rows(statement: str) -> list[dict[str, Any]]:
            return await (await database.execute(statement)).fetchall()

        topics = {row["topic"]: tuple(row["users"]) for row in await rows(_TOPICS)}
        return Truth(
            notifications={row["id"]: _notification(row, topics) for row in await rows(_NOTIFICATIONS)},
            deliveries=[Delivery(**row) for row in await rows(_DELIVERIES)],
            changes=[Change(**row) for row in await rows(_CHANGES)],
            inboxes={row["user"]: Inbox(**row) for row in await rows(_INBOXES)},
            events=[Event(**row) for row in await rows(_EVENTS)],
            suppressions=[Suppression(**row) for row in await rows(_SUPPRESSED)],
            parked={row["id"]: row["reason"] for row in await rows(_PARKED)},
            outbox=(await rows(_OUTBOX))[0]["waiting"],
            rooms=_rooms(await rows(_ROOMS)),
        )


async def heads(database_url: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return how many rows wait in the outbox, by priority, and the last number of each inbox and of each room.

    Raises `psycopg.OperationalError`.
    """
    async with await connect(database_url) as database:
        waiting = await (await database.execute(_WAITING)).fetchall()
        inboxes = await (await database.execute(_INBOXES)).fetchall()
        rooms = await (await database.execute(_ROOM_HEADS)).fetchall()
        return (
            {str(Priority.of_rank(row["priority"])): row["rows"] for row in waiting},
            {row["user"]: row["last_seq"] for row in inboxes},
            {row["room"]: row["last_seq"] for row in rooms},
        )


def _rooms(rows: list[dict[str, Any]]) -> dict[str, Room]:
    rooms: dict[str, Room] = {}
    for row in rows:
        room = rooms.setdefault(row["room"], Room(row["last_seq"]))
        if row["seq"] is not None:
            shown = {name: row[name] for name in ("seq", "event", "data", "at")}
            room.entries.append(orjson.loads(dumps(shown)))
            room.keys.append(row["key"])
    return rooms


def _notification(row: dict[str, Any], topics: dict[str, tuple[str, ...]]) -> Notification:
    audience = row["audience"]
    if "topic" in audience:
        users = topics[audience["topic"]]
    else:
        users = (audience["user"],) if "user" in audience else tuple(audience["users"])
    return Notification(row["key"], users, str(Priority.of_rank(row["priority"])), row["deliver_at"], row["expires_at"])
