"""The closed sets of words: priorities, actions, statuses. Order and spelling are part of the schema."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    """How urgent a notification is, most urgent first."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """The smallint in the database: 0 is the most urgent."""
        return _RANKS[self]

    @classmethod
    def of_rank(cls, rank: int) -> Priority:
        """Return the priority stored as `rank`."""
        return _PRIORITIES[rank]


_PRIORITIES = tuple(Priority)
_RANKS = {priority: rank for rank, priority in enumerate(_PRIORITIES)}


class Action(StrEnum):
    """What a user can do to deliveries. `read` also marks as seen."""

    SEEN = "seen"
    READ = "read"
    UNREAD = "unread"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    DELETE = "delete"


class ListStatus(StrEnum):
    """Which deliveries an inbox list shows. Deleted ones are in none."""

    ACTIVE = "active"
    UNREAD = "unread"
    UNSEEN = "unseen"
    ARCHIVED = "archived"
    ALL = "all"


class PresenceStatus(StrEnum):
    """Whether a user is connected, on any device; away: connected, and at none of them."""

    ONLINE = "online"
    AWAY = "away"
    OFFLINE = "offline"


class NotificationStatus(StrEnum):
    """Where a notification is on its way."""

    SCHEDULED = "scheduled"
    ACCEPTED = "accepted"
    DISPATCHING = "dispatching"
    DISPATCHED = "dispatched"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Cause(StrEnum):
    """Why a notification is taken out of inboxes again."""

    RECALLED = "recalled"
    EXPIRED = "expired"


# The rules of suppressions, beside those of users' mutes.
EXPIRED_IN_DIGEST = "it expired while it waited in a digest"
FOLDED = "a newer one with the same collapse key came before it could be delivered"
OVERTAKEN = "a newer one with the same collapse key had been delivered already"


class Reason(StrEnum):
    """Why one user has a notification, which is the first three, or has it not."""

    DELIVERED = "delivered"
    READ = "read"
    ARCHIVED = "archived"
    DELETED = "deleted"
    REPLACED = "replaced"
    RECALLED = "recalled"
    DIGESTED = "digested"
    SUPPRESSED = "suppressed"
    NOT_IN_AUDIENCE = "not_in_audience"
    TOO_LATE = "too_late"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    PARKED = "parked"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What an API key may do. `admin` may do everything."""

    NOTIFICATIONS_WRITE = "notifications:write"
    NOTIFICATIONS_READ = "notifications:read"
    ROOMS_PUBLISH = "rooms:publish"
    TOPICS_WRITE = "topics:write"
    TYPES_WRITE = "types:write"
    TOKENS_MINT = "tokens:mint"
    USERS_WRITE = "users:write"
    PRESENCE_READ = "presence:read"
    ADMIN = "admin"


class Queue(StrEnum):
    """Celery queues: one per priority, and one for the sweep so that no backlog can delay recovery."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    RECOVER = "recover"
