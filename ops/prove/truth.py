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
    from collections.abc import Mapping
    from datetime import datetime

_CONNECT_S = 5
_NOTIFICATIONS = """
SELECT id::text, priority, audience, idempotency_key AS key, deliver_at, expires_at, created_at, type, title,
       CASE WHEN texts IS NOT NULL THEN body END AS body, texts
FROM notification
"""
_DELIVERIES = """
SELECT i.user_id AS "user", d.seq, d.notification_id::text AS id, d.delivered_at,
       d.read_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL AS unread,
       d.seen_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL AS unseen,
       d.deleted_at IS NOT NULL AS deleted, d.locale
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
_DIGESTS = """
SELECT d.id, d.user_id AS "user", d.type, d.key, d.closed_at, d.notification_id::text AS arrived, n.data,
       ARRAY(SELECT position FROM digest_entry WHERE digest_id = d.id ORDER BY position) AS positions,
       ARRAY(SELECT notification_id::text FROM digest_entry WHERE digest_id = d.id ORDER BY position) AS ids
FROM digest d LEFT JOIN notification n ON n.id = d.notification_id
"""
_OPEN_DIGESTS = "SELECT count(*) AS open FROM digest WHERE closed_at IS NULL"
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
    created_at: datetime | None = None
    type: str = ""
    said: Mapping[str | None, tuple[str, str]] = field(default_factory=dict)  # title and body by locale; None: others


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
    locale: str | None = None


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


@dataclass(frozen=True, slots=True)
class Digest:
    """One row of `digest`, with its entries, and the `data` of what it `arrived` as."""

    id: int
    user: str
    type: str
    key: str
    closed_at: datetime | None
    arrived: str | None
    positions: tuple[int, ...]
    ids: tuple[str, ...]
    items: tuple[Mapping[str, Any], ...] = ()
    count: int = 0
    more: int = 0


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
    digests: list[Digest] = field(default_factory=list)
    parked: dict[str, str] = field(default_factory=dict)
    outbox: int = 0
    rooms: dict[str, Room] = field(default_factory=dict)

    @property
    def expired(self) -> list[Event]:
        """The events of those that expired."""
        return [event for event in self.events if event.event == "expired"]

    @property
    def dispatched(self) -> set[str]:
        """The notifications that reached somebody, or a digest, or would have if nobody had refused them."""
        gathered = {each for digest in self.digests for each in digest.ids}
        return gathered | {delivery.id for delivery in self.deliveries} | {each.id for each in self.suppressions}

    @property
    def arrived(self) -> set[str]:
        """The notifications that digests became: nobody posted them."""
        return {digest.arrived for digest in self.digests if digest.arrived is not None}

    @property
    def cancelled(self) -> set[str]:
        """The notifications that were cancelled."""
        return {event.id for event in self.events if event.event == "cancelled"}

    def counts(self) -> dict[str, int]:
        """Return what the metrics count."""
        return {
            "accepted": len(self.notifications) - len(self.arrived),
            "dispatched": len(self.dispatched),
            "deliveries": len(self.deliveries),
            "expired": len(self.expired),
            "digests": sum(digest.closed_at is not None for digest in self.digests),
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
            digests=[_digest(row) for row in await rows(_DIGESTS)],
            parked={row["id"]: row["reason"] for row in await rows(_PARKED)},
            outbox=(await rows(_OUTBOX))[0]["waiting"],
            rooms=_rooms(await rows(_ROOMS)),
        )


async def heads(database_url: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return how much waits, by priority or in digests, and the last number of each inbox and of each room.

    Raises `psycopg.OperationalError`.
    """
    async with await connect(database_url) as database:
        (digests,) = await (await database.execute(_OPEN_DIGESTS)).fetchall()  # first: one that closes waits after it
        waiting = await (await database.execute(_WAITING)).fetchall()
        inboxes = await (await database.execute(_INBOXES)).fetchall()
        rooms = await (await database.execute(_ROOM_HEADS)).fetchall()
        return (
            {str(Priority.of_rank(row["priority"])): row["rows"] for row in waiting}
            | ({"in digests": digests["open"]} if digests["open"] else {}),
            {row["user"]: row["last_seq"] for row in inboxes},
            {row["room"]: row["last_seq"] for row in rooms},
        )


def _digest(row: dict[str, Any]) -> Digest:
    data = row.pop("data") or {}
    row |= {"positions": tuple(row["positions"]), "ids": tuple(row["ids"])}
    return Digest(**row, items=tuple(data.get("items", ())), count=data.get("count", 0), more=data.get("more", 0))


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
    said: dict[str | None, tuple[str, str]] = {None: (row["title"], row["body"] or "")}
    said |= {locale: (text["title"], text["body"]) for locale, text in (row["texts"] or {}).items()}
    return Notification(
        row["key"],
        users,
        str(Priority.of_rank(row["priority"])),
        row["deliver_at"],
        row["expires_at"],
        row["created_at"],
        row["type"],
        said,
    )
