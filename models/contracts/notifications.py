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
    """One user."""
    users: Users | None = None
    """Several, up to 1,000; whoever is named twice gets it once."""
    topic: Name | None = None
    """Whoever is subscribed to it when the notification becomes due."""
    everyone: Literal[True] | None = None
    """All users who have an inbox."""
    exclude_actor: bool = False
    """Leaves out the user whom `actor` names; of a topic or everyone."""

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
    """Who it is; a user's id where it is a user, so that `exclude_actor` can leave them out."""
    name: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = None
    """As clients show it, and as `actor.name` in templates."""
    avatar_url: Url | None = None
    """A picture: an http or https URL, or a path."""


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
    """Whom it is for."""
    type: TypeName
    """Its domain is what stands before the first dot. It need not be in the catalogue."""
    priority: Priority | None = None
    """What is more urgent is dispatched first. By default the type's, else `normal`."""
    title: Annotated[Text, StringConstraints(min_length=1, max_length=MAX_TITLE)] | None = None
    """Taken literally, for everybody. May be left out where the type has templates."""
    body: Annotated[Text, StringConstraints(max_length=MAX_BODY)] | None = None
    """Taken literally, like `title`."""
    data: Data = Field(default_factory=dict)
    """What templates are filled in from, and what clients get: 16 KiB as JSON, 32 levels deep."""
    action_url: Url | None = None
    """Where a client leads to: an http or https URL, or a path."""
    actor: Actor | None = None
    """Who did what it tells of."""
    collapse_key: Annotated[Text, StringConstraints(min_length=1, max_length=128)] | None = None
    """Of the same user, type and key, the newest takes the place of what is unread."""
    deliver_at: Time | None = None
    """When it becomes due, a year ahead at most. Left out or past: at once."""
    expires_at: Time | None = None
    """When it leaves all inboxes; where that is past, nobody gets it. By default as the type's `ttl_s` says."""

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
    """As the header `Idempotency-Key` of a single request."""


class BulkIn(Message):
    """What `POST /v1/notifications/bulk` takes as JSON; as NDJSON each line is one item."""

    notifications: Annotated[list[BulkItem], Field(min_length=1, max_length=MAX_BULK_ITEMS)]
    """Each is accepted or refused by itself."""


class Accepted(Answer):
    """The answer to one notification: it is on disk."""

    id: UUID
    status: Literal["accepted", "scheduled"]
    """`scheduled` where `deliver_at` is later."""
    created_at: datetime


class BulkError(Answer):
    """Why one item of a bulk was refused."""

    code: str
    detail: str
    errors: list[ErrorItem] | None = None
    """Each wrong value, with a JSON pointer into the item."""


class BulkResult(Answer):
    """What became of one item of a bulk."""

    index: int
    """Which of those that were sent, from 0."""
    status: Literal["accepted", "scheduled", "replayed", "rejected"]
    """`replayed`: it was accepted before, under the same key."""
    id: UUID | None = None
    """Null where it was rejected."""
    error: BulkError | None = None
    """Null where it was not."""


class BulkAnswer(Answer):
    """The answer to a bulk; `accepted` counts replayed and scheduled items too."""

    accepted: int
    """Replayed and scheduled ones too."""
    rejected: int
    results: list[BulkResult]
    """One for each that was sent, in their order."""


class TimelineEvent(Answer):
    """One thing that happened to a notification."""

    at: datetime
    event: str
    """A word for programs, such as `dispatched` or `suppressed`."""
    detail: str
    """A sentence for people."""


class NotificationCounts(Answer):
    """How many users a notification has reached, and how far."""

    recipients: int
    """Into whose inboxes it went, those too who lost it since. What waits in a digest does not count."""
    suppressed: int
    """From whom a rule kept it; the timeline names it."""
    acked: int
    """Of whom a device said that it holds it."""
    seen: int
    """Who has seen it."""
    read: int
    """Who has read it."""


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
    """Whom it is for, as it was said."""
    title: str
    """For whom none of `texts` is."""
    body: str
    texts: dict[str, Wording] | None
    """What the type's templates became, by locale."""
    mutable: bool
    """What its type said when it was accepted."""
    critical_overrides: bool
    """What its type said when it was accepted."""
    data: dict[str, Any]
    action_url: str | None
    actor: dict[str, Any] | None
    collapse_key: str | None
    deliver_at: datetime | None
    """When it was to become due; null: at once."""
    expires_at: datetime | None
    """By the sender or by the type's `ttl_s`; null: never."""
    created_at: datetime
    status: NotificationStatus
    """Where it is on its way."""
    counts: NotificationCounts
    timeline: list[TimelineEvent]
    """What happened to it, in order."""


class CancelOut(Answer):
    """What became of the recipients of a cancelled notification: their numbers add up.

    `cancelled` users never get it, `recalled` lose it now, and `already_read` had read it, had it no more, as after it
    was deleted or had expired, or got it within a digest: for them nothing changes.
    """

    status: Literal["cancelled"]
    cancelled: int
    """Who will never get it."""
    recalled: int
    """Who had it unread, and loses it."""
    already_read: int
    """Whom it leaves alone."""


class NotificationsQuery(Message):
    """Which of a tenant's notifications are listed. `to` is a user whom they name; `next` is an earlier answer's."""

    type: TypeName | None = None
    """Those of this type."""
    domain: Domain | None = None
    """Those of this domain."""
    priority: Priority | None = None
    """Those of this priority."""
    status: NotificationStatus | None = None
    """Those that are there on their way."""
    to: Name | None = None
    """Those that name this user, alone or among others; none that went to a topic or everyone."""
    created_after: Time | None = None
    """Those accepted later than this."""
    created_before: Time | None = None
    """Those accepted earlier than this."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    """How many on a page, at most."""
    next: PageCursor | None = None
    """The `next` of the last answer, with the same filters."""


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
    """For the next page."""
