"""One class per wire message, REST and socket alike. OpenAPI is generated from these; tables are elsewhere.

Input classes refuse unknown fields and carry the limits of the contract. Output classes document what
`models.frames` and `models.queries` write, and the tests validate real answers against them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, field_validator, model_validator
from pydantic_core import PydanticCustomError

from models.fields import (
    MAX_BODY,
    MAX_BODY_TEMPLATE,
    MAX_BULK_ITEMS,
    MAX_DELAY,
    MAX_DIGEST_TEMPLATE,
    MAX_LOCALES,
    MAX_LOG_PAGE,
    MAX_MUTES,
    MAX_PAGE,
    MAX_SEQ,
    MAX_SEQS,
    MAX_TITLE,
    MAX_TITLE_TEMPLATE,
    MAX_TOKEN_TTL_S,
    MAX_TTL_S,
    MAX_USERS,
    ClockTime,
    Data,
    Domain,
    EntrySeq,
    Every,
    Grants,
    IdempotencyKey,
    JwksUrl,
    Locale,
    Name,
    PageCursor,
    Schema,
    Seq,
    TenantName,
    Text,
    Time,
    TimeZone,
    TypeName,
    Url,
    Users,
    Watched,
)
from models.preferences import DAYS
from models.retention import KeptByType
from models.states import Action, ListStatus, NotificationStatus, PresenceStatus, Priority, Reason, Scope

_NAMES = TypeAdapter(Watched)


class Message(BaseModel):
    """Base of what clients send: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Base of what the server sends."""

    model_config = ConfigDict(extra="forbid")


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
            raise PydanticCustomError("exclude_actor", "exclude_actor goes with topic or everyone")
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

    @model_validator(mode="after")
    def _expires_after_delivery(self) -> Self:
        if self.deliver_at and self.expires_at and self.expires_at <= self.deliver_at:
            raise PydanticCustomError("expires_too_soon", "expires_at must be later than deliver_at")
        return self

    @model_validator(mode="after")
    def _has_the_actor_it_excludes(self) -> Self:
        if self.to.exclude_actor and self.actor is None:
            raise PydanticCustomError("no_actor", "to.exclude_actor needs an actor")
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


class ErrorItem(Answer):
    """One wrong value of a request."""

    pointer: str
    code: str
    detail: str


class Problem(Answer):
    """RFC 9457 problem details, with a stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ErrorItem] | None = None


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


class TemplateIn(Message):
    """How a notification is worded in one language: Liquid, filled in from its `data` and `actor`."""

    title: Annotated[Text, StringConstraints(min_length=1, max_length=MAX_TITLE_TEMPLATE)]
    body: Annotated[Text, StringConstraints(max_length=MAX_BODY_TEMPLATE)] = ""


class DigestIn(Message):
    """How low and normal notifications of a type are gathered, for each recipient and `key`, and arrive as one.

    `every` is how long after the first of them, from `1m` to `31d`, or a cron line of five fields in UTC, whose next
    moment it is. `key` is Liquid, filled in from `data` and `actor` to at most 128 characters.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"every": "1h", "key": "{{ post }}"}]})

    every: Every
    key: Annotated[Text, StringConstraints(max_length=MAX_DIGEST_TEMPLATE)] = ""


class TypeIn(Message):
    """What is said about every notification of a type, so that its senders need not.

    `schema` is a JSON Schema of `data`; `ttl_s` is how many seconds after its time a notification expires; where
    `mutable` is false, users cannot mute it. Who has none of the templates' locales gets `en`, or the first of them
    where there is no `en`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "priority": "high",
                "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
                "templates": {
                    "en": {"title": "{{ n | plural: one: '# parcel', other: '# parcels' }}"},
                    "uk": {"title": "{{ n | plural: one: '# посилка', few: '# посилки', other: '# посилок' }}"},
                },
                "ttl_s": 86400,
            }
        },
    )

    priority: Priority = Priority.NORMAL
    schema_: Schema | None = Field(default=None, alias="schema")
    templates: Annotated[dict[Locale, TemplateIn], Field(max_length=MAX_LOCALES)] = Field(default_factory=dict)
    ttl_s: Annotated[int, Field(strict=True, ge=1, le=MAX_TTL_S)] | None = None
    mutable: Annotated[bool, Field(strict=True)] = True
    digest: DigestIn | None = None


class TypeOut(TypeIn):
    """A type. Each change is a `version`; what was sent keeps what an earlier one made of it."""

    model_config = ConfigDict(json_schema_extra={})

    type: str
    version: int
    updated_at: datetime


class TypesQuery(Message):
    """Which page of the catalogue: types after the name `after`, in the order of names."""

    after: Annotated[str, StringConstraints(max_length=128)] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE


class TypeSummary(Answer):
    """A type without its schema and templates."""

    type: str
    version: int
    priority: Priority
    ttl_s: int | None
    mutable: bool
    has_schema: bool
    locales: list[str]
    updated_at: datetime


class TypesPage(Answer):
    """Some of the types that the key may write to. `next_after` is null on the last page."""

    types: list[TypeSummary]
    next_after: str | None


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


class ExplainQuery(Message):
    """Which notification a recipient is asked about."""

    notification: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ExplainedEvent(Answer):
    """One thing that happened to a notification on its way to one user; `at` is null where nobody noted it."""

    at: datetime | None
    event: str
    detail: str


class ExplainOut(Answer):
    """Why one user has a notification, or has it not. `seq` is its number in their inbox, where it came to that."""

    user: str
    notification: UUID
    reason: Reason
    verdict: str
    seq: int | None
    timeline: list[ExplainedEvent]


class DigestPreview(Answer):
    """What a digest would arrive as: `data` is `{"items": [...], "count", "more"}`, the oldest first, up to 50."""

    priority: Priority
    title: str
    body: str
    data: dict[str, Any]
    action_url: str | None
    actor: dict[str, Any] | None


class OpenDigest(Answer):
    """What waits for a user, of one type and key; `preview` is null where all of it has expired."""

    type: str
    key: str
    opened_at: datetime
    closes_at: datetime
    count: int
    preview: DigestPreview | None


class OpenDigests(Answer):
    """A user's open digests, up to 100. `more` says that there are others."""

    user: str
    digests: list[OpenDigest]
    more: bool


class ClosedDigest(Answer):
    """A digest that was closed, and the notification that it became; null where all of it had expired."""

    type: str
    key: str
    opened_at: datetime
    count: int
    notification: UUID | None


class ClosedDigests(Answer):
    """What was closed, up to 100. Where `more` is true, there are others: call again."""

    user: str
    closed: list[ClosedDigest]
    more: bool


class Mutes(Message):
    """What a user does not want: none of it arrives, except what is critical or not `mutable`."""

    domains: Annotated[list[Domain], Field(max_length=MAX_MUTES)] = Field(default_factory=list)
    types: Annotated[list[TypeName], Field(max_length=MAX_MUTES)] = Field(default_factory=list)
    priorities: list[Literal["high", "normal", "low"]] = Field(default_factory=list, max_length=3)


class QuietHoursIn(Message):
    """When what arrives is `silent`: clients do not ring. They begin on `days`, and may go past midnight."""

    start: ClockTime
    end: ClockTime
    time_zone: TimeZone
    days: Annotated[
        list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1, max_length=7)
    ] = Field(default_factory=lambda: list(DAYS))

    @model_validator(mode="after")
    def _last_for_some_time(self) -> Self:
        if self.start == self.end:
            raise PydanticCustomError("no_time", "start and end must differ; leave quiet_hours out for none")
        return self


class PreferencesIn(Message):
    """All of a user's preferences: what is left out is as it is for somebody who has none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "mutes": {"domains": ["blog"], "types": ["shop.order.viewed"], "priorities": ["low"]},
                "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Kyiv"},
                "locale": "uk",
            }
        }
    )

    mutes: Mutes = Field(default_factory=Mutes)
    quiet_hours: QuietHoursIn | None = None
    locale: Locale | None = None


class Subscribers(Message):
    """Up to 1,000 users who are to be told what is sent to a topic, or no longer."""

    model_config = ConfigDict(json_schema_extra={"example": {"users": ["u_1", "u_2"]}})

    users: Users


class Subscriber(Message):
    """One line of an import as NDJSON."""

    model_config = ConfigDict(json_schema_extra={"example": {"user": "u_1"}})

    user: Name


class RejectedLine(Answer):
    """What is wrong with one line of an import; lines count from 1."""

    line: int
    detail: str


class SubscribersOut(Answer):
    """How many were subscribed who were not, or unsubscribed who were; of an import, also the lines that were wrong."""

    topic: str
    changed: int
    rejected: int = 0
    errors: list[RejectedLine] = Field(default_factory=list)


class SubscribersQuery(Message):
    """Which page of a topic's subscribers: those after the name `after`, in the order of names."""

    after: Annotated[str, StringConstraints(max_length=128)] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_USERS)] = 100


class SubscribersPage(Answer):
    """Some of a topic's subscribers. `next_after` is null on the last page."""

    topic: str
    users: list[str]
    next_after: str | None


class RoomEventIn(Message):
    """What happened to a room's entity. Members of the room get it with a number."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"event": "order.updated", "data": {"order_id": 42, "status": "packed"}}}
    )

    event: Name
    data: Data = Field(default_factory=dict)


class RoomEventOut(Answer):
    """The answer to an event: it is on disk, under this number of its room."""

    room: str
    seq: int


class RoomEntry(Answer):
    """One event of a room's log."""

    seq: int
    event: str
    data: dict[str, Any]
    at: datetime


class RoomLogPage(Answer):
    """A page of a room's log. It accounts for every number from `from` to `to`."""

    room: str
    from_: int = Field(alias="from")
    to: int
    head: int
    reset: bool
    entries: list[RoomEntry]


class TokenIn(Message):
    """Asks for a user token. `ttl` is in seconds.

    `rooms` and `watch` are grants: names, or beginnings of names followed by `*`.
    """

    user: Name
    ttl: Annotated[int, Field(strict=True, ge=1, le=MAX_TOKEN_TTL_S)] = 3600
    rooms: Grants = []
    watch: Grants = []
    locale: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", max_length=35)] | None = (
        None
    )


class PresenceQuery(Message):
    """What `GET /v1/presence` takes: names, separated by commas."""

    users: Annotated[str, StringConstraints(min_length=1, max_length=13_000)]

    @field_validator("users")
    @classmethod
    def _are_names(cls, value: str) -> str:
        _NAMES.validate_python(value.split(","))
        return value

    def names(self) -> list[str]:
        """Return each once."""
        return _NAMES.validate_python(self.users.split(","))


class PresenceOut(Answer):
    """Whether a user is online; `last_seen_at` is now for who is connected, null for who never was."""

    status: PresenceStatus
    last_seen_at: datetime | None


class PresenceList(Answer):
    """The presence of users, by name."""

    users: dict[str, PresenceOut]


class DisconnectOut(Answer):
    """A user's sockets are ended, and tokens that were issued before `revoked_at` refused, within a second."""

    user: str
    revoked_at: datetime


class ErasedCounts(Answer):
    """How many rows were erased. `shared_notifications` also named others: the user was taken out of their audience."""

    deliveries: int
    changes: int
    notifications: int
    shared_notifications: int
    suppressions: int
    digests: int
    subscriptions: int
    preferences: int


class EraseOut(Answer):
    """What was erased of a user, whose tokens from before `revoked_at` are refused."""

    user: str
    revoked_at: datetime
    erased: ErasedCounts


class TokenOut(Answer):
    """A signed user token."""

    token: str
    expires_at: datetime


class KeyIn(Message):
    """Asks for an API key. Empty `domains`: any domain."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    domains: Annotated[list[Domain], Field(max_length=100)] = []


class KeyOut(Answer):
    """An API key without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    domains: list[str]
    created_at: datetime
    revoked_at: datetime | None


class KeyCreated(KeyOut):
    """A new API key. `key` is shown this once."""

    key: str


class KeyList(Answer):
    """The tenant's keys, newest first."""

    keys: list[KeyOut]


class TenantSettings(Message):
    """What a tenant has of its own. Null: only what the settings say.

    `ingest_per_s` is for all its keys together, beside the limit of each. Of the types that a pattern of `retention`
    covers, a name or the beginning of names and a `*`, an inbox keeps the newest `items`, and none older than `age_s`.
    With `require_types`, a notification whose type is not in the catalogue is refused.
    """

    jwks_url: JwksUrl | None = None
    ingest_per_s: Annotated[float, Field(strict=True, ge=0.1, le=1_000_000)] | None = None
    retention: KeptByType | None = None
    require_types: Annotated[bool, Field(strict=True)] = False


class TenantIn(TenantSettings):
    """Asks for a new tenant. Its name is part of its users' tokens."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"id": "acme", "ingest_per_s": 500, "retention": {"*": {"age_s": 7776000}}}}
    )

    id: TenantName


class TenantPatch(TenantSettings):
    """Changes what it names. A `secret` that is rotated is still believed until `end_rotation`."""

    model_config = ConfigDict(json_schema_extra={"example": {"secret": "rotate"}})

    secret: Literal["rotate", "end_rotation"] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set or (self.model_fields_set == {"secret"} and self.secret is None):
            raise PydanticCustomError(
                "empty_patch", "must have at least one of secret, jwks_url, ingest_per_s, retention and require_types"
            )
        return self


class TenantOut(Answer):
    """A tenant without its secrets. `in_rotation`: the secret before the last rotation is still believed."""

    id: str
    jwks_url: str | None
    in_rotation: bool
    ingest_per_s: float | None
    retention: KeptByType | None
    require_types: bool
    created_at: datetime


class TenantWithSecret(TenantOut):
    """A tenant, and the secret that signs its users' tokens where it is new: it is shown this once."""

    secret: str | None


class TenantsQuery(Message):
    """Which page of the tenants: those after the name `after`, in the order of names."""

    after: Annotated[str, StringConstraints(max_length=63)] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_USERS)] = 100


class TenantsPage(Answer):
    """Some of the tenants. `next_after` is null on the last page."""

    tenants: list[TenantOut]
    next_after: str | None


class Counts(Answer):
    """How many deliveries of an inbox wait. Archived and deleted ones do not count."""

    unread: int
    unseen: int


class DomainCounts(Counts):
    """Counts, and the same by domain; domains with neither are left out."""

    domains: dict[str, Counts]


class Item(Answer):
    """One delivery as its user sees it."""

    seq: int
    id: UUID
    type: str
    domain: str
    priority: Priority
    title: str
    body: str
    data: dict[str, Any]
    action_url: str | None
    actor: dict[str, Any] | None
    collapse_key: str | None
    collapsed: int
    silent: bool
    created_at: datetime
    seen_at: datetime | None
    read_at: datetime | None
    archived_at: datetime | None
    expires_at: datetime | None


class ArrivalEntry(Answer):
    """An inbox entry: something arrived."""

    seq: int
    kind: Literal["arrival"]
    item: Item


class ChangeEntry(Answer):
    """An inbox entry: deliveries changed, either those in `seqs` or all up to `up_to`."""

    seq: int
    kind: Literal["change"]
    action: Action
    seqs: list[int] | None = None
    up_to: int | None = None
    at: datetime


Entry = Annotated[ArrivalEntry | ChangeEntry, Field(discriminator="kind")]


class InboxPage(Answer):
    """A page of an inbox list, newest first. `seq` is the inbox's head at that moment."""

    items: list[Item]
    next_before: int | None
    counts: Counts
    seq: int


class LogPage(Answer):
    """A page of the inbox log. It accounts for every number from `from` to `to`."""

    from_: int = Field(alias="from")
    to: int
    head: int
    reset: bool
    entries: list[Entry]
    counts: Counts


class ItemPatch(Message):
    """New state of one delivery; what is left out stays. `read: true` also marks as seen."""

    read: Annotated[bool, Field(strict=True)] | None = None
    seen: Literal[True] | None = None
    archived: Annotated[bool, Field(strict=True)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.read is None and self.seen is None and self.archived is None:
            raise PydanticCustomError("empty_patch", "must have at least one of read, seen and archived")
        return self

    def actions(self) -> list[Action]:
        """Return the actions that lead to the wanted state, in order."""
        wanted: list[Action] = []
        if self.seen and not self.read:
            wanted.append(Action.SEEN)
        if self.read is not None:
            wanted.append(Action.READ if self.read else Action.UNREAD)
        if self.archived is not None:
            wanted.append(Action.ARCHIVE if self.archived else Action.UNARCHIVE)
        return wanted


class ActionIn(Message):
    """Does one action to some deliveries, or to all up to a number: exactly one of `seqs` and `up_to`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "read", "seqs": [58]}]})

    action: Action
    seqs: Annotated[list[EntrySeq], Field(min_length=1, max_length=MAX_SEQS)] | None = None
    up_to: Seq | None = None

    @model_validator(mode="after")
    def _seqs_or_up_to(self) -> Self:
        if (self.seqs is None) == (self.up_to is None):
            raise PydanticCustomError("seqs_or_up_to", "must have exactly one of seqs and up_to")
        return self


class ActionOut(Answer):
    """The inbox after an action. `changed` counts deliveries; 0 left no entry."""

    seq: int
    changed: int
    counts: Counts


class InboxQuery(Message):
    """What `GET /v1/inbox` may filter by. `before` pages backwards from a number."""

    status: ListStatus = ListStatus.ACTIVE
    domain: Domain | None = None
    type: TypeName | None = None
    priority: Priority | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    before: Annotated[int, Field(ge=1, le=MAX_SEQ)] | None = None


class LogQuery(Message):
    """What `GET /v1/inbox/log` takes."""

    since: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LOG_PAGE)] = MAX_LOG_PAGE
