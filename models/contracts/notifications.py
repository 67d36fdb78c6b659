"""What backends say, what becomes of it, and the list of what was said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from models.contracts.base import Answer, Message
from models.contracts.problems import ErrorItem
from models.fields import (
    MAX_BODY,
    MAX_BULK_ITEMS,
    MAX_DELAY,
    MAX_PAGE,
    MAX_TITLE,
    Data,
    Domain,
    IdempotencyKey,
    Name,
    PageCursor,
    Text,
    Time,
    TypeName,
    Url,
    Users,
)
from models.states import NotificationStatus, Priority


class Audience(Message):
    """Whom a notification is for: exactly one of the four. `everyone` is every user with an inbox.

    A topic's audience are those who are subscribed when the notification becomes due; everyone, those who have an inbox
    when the first of them gets it. `exclude_actor` leaves out whom the notification names as its `actor`.
    """

    user: Name | None = None
    users: Users | None = None
    topic: Name | None = None
    everyone: Literal[True] | None = None
    exclude_actor: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("user", "users", "topic", "everyone") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "one_audience", "must have exactly one of user, users, topic and everyone; {n} given", {"n": len(given)}
            )
        if self.exclude_actor and given[0] not in {"topic", "everyone"}:
            raise PydanticCustomError("exclude_actor", "must name a topic or everyone, as exclude_actor is true")
        return self


class Actor(Message):
    """Who did what the notification tells of."""

    id: Name
    name: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = None
    avatar_url: Url | None = None


class NotificationIn(Message):
    """What a backend says. Times are RFC 3339.

    `priority` and `expires_at` default to what the type says, else to `normal` and to never. `title` and `body` may be
    left out where the type has templates; what is given is taken as it is.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "to": {"user": "u_1"},
                "type": "shop.order.shipped",
                "priority": "high",
                "title": "Order 42 is on its way",
                "body": "It arrives on Friday.",
                "data": {"order_id": 42},
                "action_url": "/orders/42",
            }
        }
    )

    to: Audience
    type: TypeName
    priority: Priority | None = None
    title: Annotated[Text, StringConstraints(min_length=1, max_length=MAX_TITLE)] | None = None
    body: Annotated[Text, StringConstraints(max_length=MAX_BODY)] | None = None
    data: Data = Field(default_factory=dict)
    action_url: Url | None = None
    actor: Actor | None = None
    collapse_key: Annotated[Text, StringConstraints(min_length=1, max_length=128)] | None = None
    deliver_at: Time | None = None
    expires_at: Time | None = None

    @field_validator("deliver_at")
    @classmethod
    def _within_a_year(cls, deliver_at: datetime | None) -> datetime | None:
        if deliver_at is not None and deliver_at - datetime.now(UTC) > MAX_DELAY:
            raise PydanticCustomError("too_far_ahead", "must be a year ahead at most; schedule it later")
        return deliver_at

    @field_validator("expires_at")
    @classmethod
    def _after_delivery(cls, expires_at: datetime | None, info: ValidationInfo) -> datetime | None:
        deliver_at = info.data.get("deliver_at")
        if deliver_at and expires_at and expires_at <= deliver_at:
            raise PydanticCustomError("expires_too_soon", "must be later than deliver_at")
        return expires_at

    @model_validator(mode="after")
    def _has_the_actor_it_excludes(self) -> Self:
        if self.to.exclude_actor and self.actor is None:
            raise PydanticCustomError("no_actor", "must name an actor, as to.exclude_actor is true")
        return self


class BulkItem(NotificationIn):
    """One notification of a bulk, with an idempotency key of its own."""

    idempotency_key: IdempotencyKey | None = None


class BulkIn(Message):
    """What `POST /v1/notifications/bulk` takes as JSON; as NDJSON each line is one item."""

    notifications: Annotated[list[BulkItem], Field(min_length=1, max_length=MAX_BULK_ITEMS)]


class Accepted(Answer):
    """The answer to one notification: it is on disk."""

    id: UUID
    status: Literal["accepted", "scheduled"]
    created_at: datetime


class BulkError(Answer):
    """Why one item of a bulk was refused."""

    code: str
    detail: str
    errors: list[ErrorItem] | None = None


class BulkResult(Answer):
    """What became of one item of a bulk."""

    index: int
    status: Literal["accepted", "scheduled", "replayed", "rejected"]
    id: UUID | None = None
    error: BulkError | None = None


class BulkAnswer(Answer):
    """The answer to a bulk; `accepted` counts replayed and scheduled items too."""

    accepted: int
    rejected: int
    results: list[BulkResult]


class TimelineEvent(Answer):
    """One thing that happened to a notification."""

    at: datetime
    event: str
    detail: str


class NotificationCounts(Answer):
    """How many users a notification has reached, and how far."""

    recipients: int
    suppressed: int
    acked: int
    seen: int
    read: int


class Wording(Answer):
    """What a notification says in one language."""

    title: str
    body: str


class NotificationOut(Answer):
    """A notification as its sender sees it.

    Who has none of the locales in `texts` is told `title` and `body`; it is null where there is only one text.
    """

    id: UUID
    type: str
    domain: str
    priority: Priority
    to: dict[str, Any]
    title: str
    body: str
    texts: dict[str, Wording] | None
    mutable: bool
    critical_overrides: bool
    data: dict[str, Any]
    action_url: str | None
    actor: dict[str, Any] | None
    collapse_key: str | None
    deliver_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    status: NotificationStatus
    counts: NotificationCounts
    timeline: list[TimelineEvent]


class CancelOut(Answer):
    """What became of the recipients of a cancelled notification: their numbers add up.

    `cancelled` users never get it, `recalled` lose it now, and `already_read` had read or deleted it, or got it within
    a digest, and keep it so.
    """

    status: Literal["cancelled"]
    cancelled: int
    recalled: int
    already_read: int


class NotificationsQuery(Message):
    """Which of a tenant's notifications are listed. `to` is a user whom they name; `next` is an earlier answer's."""

    type: TypeName | None = None
    domain: Domain | None = None
    priority: Priority | None = None
    status: NotificationStatus | None = None
    to: Name | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    next: PageCursor | None = None


class ListedNotification(Answer):
    """A notification in a list: what was said, and where it is on its way."""

    id: UUID
    type: str
    domain: str
    priority: Priority
    to: dict[str, Any]
    title: str
    body: str
    data: dict[str, Any]
    action_url: str | None
    actor: dict[str, Any] | None
    collapse_key: str | None
    deliver_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    status: NotificationStatus


class NotificationsPage(Answer):
    """Some of a tenant's notifications, newest first. `next` is null on the last page, and only there."""

    notifications: list[ListedNotification]
    next: str | None
