"""The tables, as SQLModel classes: what Alembic compares with and what documents the schema.

`notification` is written once and never changed; `delivery` is thin and is the part that changes. No foreign key
stands on the hot path: what one transaction writes together is consistent by construction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_NOW = text("now()")


def _time(*, default: bool = False, nullable: bool = True) -> Any:  # noqa: ANN401  # SQLModel's own type for a column
    return Field(
        default=None,
        sa_column_kwargs={"server_default": _NOW} if default else {},
        sa_type=DateTime(timezone=True),
        nullable=nullable,
    )


class Tenant(SQLModel, table=True):
    """The isolation boundary.

    `secret` signs its user tokens, `previous_secret` is still believed, and `jwks_url` is where its identity provider
    publishes keys. All null for the default tenant, which uses the settings. `require_types`: a notification whose type
    is not in the catalogue is refused.
    """

    __tablename__ = "tenant"
    __table_args__ = (Index("tenant_require_types", "id", postgresql_where=text("require_types")),)

    id: str = Field(primary_key=True, sa_type=Text)
    secret: str | None = Field(default=None, sa_type=Text)
    previous_secret: str | None = Field(default=None, sa_type=Text)
    jwks_url: str | None = Field(default=None, sa_type=Text)
    require_types: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = _time(default=True, nullable=False)


class ApiKey(SQLModel, table=True):
    """A backend's key. Only a hash of the secret half is stored."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True, sa_type=Text)
    tenant: str = Field(sa_type=Text, foreign_key="tenant.id", index=True)
    name: str = Field(sa_type=Text)
    secret_hash: bytes = Field(sa_type=LargeBinary)
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    domains: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'")))
    created_at: datetime = _time(default=True, nullable=False)
    revoked_at: datetime | None = _time()


class CatalogueType(SQLModel, table=True):
    """What is known of a type, as `models.contracts.TypeIn` has checked it. `body` is null once it is deleted.

    What was accepted does not depend on it: a notification holds what its type made of it.
    """

    __tablename__ = "type"
    __table_args__ = (Index("type_updated", "updated_at"),)

    tenant: str = Field(sa_type=Text, primary_key=True)
    name: str = Field(sa_type=Text, primary_key=True)
    version: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    body: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # in the order given
    updated_at: datetime = _time(default=True, nullable=False)


class Notification(SQLModel, table=True):
    """What was said. Immutable, but that a user who is erased is taken out of its audience.

    `texts` is title and body by locale, where its type has several; else null.
    """

    __tablename__ = "notification"
    __table_args__ = (
        Index(
            "notification_idempotency",
            "tenant",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("notification_listed", "tenant", "created_at", "id"),
        CheckConstraint("priority BETWEEN 0 AND 3", name="notification_priority"),
    )

    id: UUID = Field(primary_key=True)
    tenant: str = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    domain: str = Field(sa_type=Text)
    priority: int = Field(sa_type=SmallInteger)
    title: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)
    texts: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    mutable: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # as it was sent: jsonb writes 1e300 out
    audience: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    actor: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    action_url: str | None = Field(default=None, sa_type=Text)
    collapse_key: str | None = Field(default=None, sa_type=Text)
    deliver_at: datetime | None = _time()
    expires_at: datetime | None = _time()
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    body_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    created_at: datetime = _time(default=True, nullable=False)


class NotificationEvent(SQLModel, table=True):
    """What befell a notification other than being accepted and dispatched: expired, parked, replayed."""

    __tablename__ = "notification_event"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    notification_id: UUID = Field(index=True)
    at: datetime = _time(default=True, nullable=False)
    event: str = Field(sa_type=Text)
    detail: str = Field(sa_type=Text)


class Outbox(SQLModel, table=True):
    """What is still to be dispatched. Empty when idle. `position` is the order in which requests were accepted."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_due", "priority", "due_at", "position"),
        Index("outbox_notification", "notification_id"),
    )

    position: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    notification_id: UUID
    priority: int = Field(sa_type=SmallInteger)
    due_at: datetime = _time(default=True, nullable=False)
    attempts: int = Field(sa_type=SmallInteger, sa_column_kwargs={"server_default": text("0")})
    withdraws: str | None = Field(default=None, sa_type=Text)  # a `models.states.Cause`; null: it is to be delivered


class TopicSubscription(SQLModel, table=True):
    """A user is told what is sent to a topic. What was due before `subscribed_at` is not for them."""

    __tablename__ = "topic_subscription"
    __table_args__ = (Index("topic_subscription_user", "tenant", "user_id", "topic"),)

    tenant: str = Field(sa_type=Text, primary_key=True)
    topic: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    subscribed_at: datetime = _time(default=True, nullable=False)


class Broadcast(SQLModel, table=True):
    """How far a notification to a topic or to everyone is: all up to the user `cursor` have it, `reached` of them."""

    __tablename__ = "broadcast"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    notification_id: UUID = Field(primary_key=True)
    cursor: str = Field(sa_type=Text)
    reached: int = Field(sa_type=BigInteger)
    started_at: datetime = _time(default=True, nullable=False)
    done_at: datetime | None = _time()


class Withdrawal(SQLModel, table=True):
    """A notification that is taken out of inboxes: up to the inbox `cursor`, so far out of `withdrawn` of them.

    Where it was cancelled, `cancelled` users never get it, `recalled` lose it, and `already_read` had read it.
    """

    __tablename__ = "withdrawal"
    __table_args__ = (CheckConstraint("cause IN ('recalled', 'expired')", name="withdrawal_cause"),)

    notification_id: UUID = Field(primary_key=True)
    cause: str = Field(sa_type=Text, primary_key=True)
    at: datetime = _time(default=True, nullable=False)
    cancelled: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    recalled: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    withdrawn: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    already_read: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    cursor: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})


class Expiry(SQLModel, table=True):
    """A notification that is to leave every inbox at `expires_at`; it goes into the outbox then."""

    __tablename__ = "expiry"
    __table_args__ = (Index("expiry_due", "expires_at"),)

    notification_id: UUID = Field(primary_key=True)
    priority: int = Field(sa_type=SmallInteger)
    expires_at: datetime = _time(nullable=False)


class Preference(SQLModel, table=True):
    """What a user does not want, as `models.contracts.PreferencesIn` has checked it."""

    __tablename__ = "preference"

    tenant: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    updated_at: datetime = _time(default=True, nullable=False)


class Suppression(SQLModel, table=True):
    """A notification that a user did not get, and the rule that kept it from them."""

    __tablename__ = "suppression"
    __table_args__ = (Index("suppression_user", "user_id", "notification_id"),)

    notification_id: UUID = Field(primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    rule: str = Field(sa_type=Text)
    at: datetime = _time(default=True, nullable=False)


class Parked(SQLModel, table=True):
    """Outbox rows that could not be dispatched, with the reason, until an operator replays them."""

    __tablename__ = "parked"

    notification_id: UUID = Field(primary_key=True)
    priority: int = Field(sa_type=SmallInteger)
    attempts: int = Field(sa_type=SmallInteger)
    reason: str = Field(sa_type=Text)
    parked_at: datetime = _time(default=True, nullable=False)


class Inbox(SQLModel, table=True):
    """One user's numbered log. The row lock is held to commit, so the order of numbers is the order of commits."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index("inbox_user", "tenant", "user_id", unique=True),
        CheckConstraint("unread >= 0 AND unseen >= 0", name="inbox_counts"),
        CheckConstraint("acked_seq <= last_seq AND floor_seq <= last_seq", name="inbox_order"),
        CheckConstraint("length(user_id) BETWEEN 1 AND 128", name="inbox_user_name"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    tenant: str = Field(sa_type=Text)
    user_id: str = Field(sa_type=Text)
    last_seq: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    acked_seq: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    floor_seq: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    unread: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    unseen: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    created_at: datetime = _time(default=True, nullable=False)


class Delivery(SQLModel, table=True):
    """One notification in one inbox. The row stays when it is deleted, so that senders' counts stay true.

    `locale` says which of the notification's texts it was delivered with; null: its title and body.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        Index("delivery_notification", "notification_id", "inbox_id"),
        Index(
            "delivery_active",
            "inbox_id",
            "seq",
            "archived_at",  # null throughout; next to `seq`, a filter looks to Postgres 18 like one to skip by
            "domain",  # what is filtered by, without a visit to the table
            "type",
            "priority",
            postgresql_where=text("archived_at IS NULL AND deleted_at IS NULL"),
        ),
        Index(
            "delivery_archived",
            "inbox_id",
            "seq",
            postgresql_where=text("archived_at IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index(
            "delivery_collapse",
            "inbox_id",
            "type",
            "collapse_key",
            postgresql_where=text(
                "collapse_key IS NOT NULL AND read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL"
            ),
        ),
        Index(
            "delivery_unread",
            "inbox_id",
            "seq",
            postgresql_where=text("read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL"),
        ),
        Index(
            "delivery_unseen",
            "inbox_id",
            "seq",
            postgresql_where=text("seen_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL"),
        ),
    )

    inbox_id: int = Field(sa_type=BigInteger, primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    notification_id: UUID
    domain: str = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    priority: int = Field(sa_type=SmallInteger)
    silent: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    locale: str | None = Field(default=None, sa_type=Text)
    collapse_key: str | None = Field(default=None, sa_type=Text)
    collapsed: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})  # how many others it stands for
    delivered_at: datetime = _time(default=True, nullable=False)
    seen_at: datetime | None = _time()
    read_at: datetime | None = _time()
    archived_at: datetime | None = _time()
    deleted_at: datetime | None = _time()


class InboxChange(SQLModel, table=True):
    """A numbered change to an inbox. "Read all" is one row here, however many deliveries it touched."""

    __tablename__ = "inbox_change"
    __table_args__ = (CheckConstraint("(seqs IS NULL) <> (up_to IS NULL)", name="inbox_change_target"),)

    inbox_id: int = Field(sa_type=BigInteger, primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    action: str = Field(sa_type=Text)
    seqs: list[int] | None = Field(default=None, sa_column=Column(ARRAY(BigInteger)))
    up_to: int | None = Field(default=None, sa_type=BigInteger)
    at: datetime = _time(default=True, nullable=False)


class Revocation(SQLModel, table=True):
    """Tokens of this user that were issued before `revoked_at` are refused.

    It is all that is kept of a user who was erased at `erased_at`: without it, older tokens would be good again.
    """

    __tablename__ = "revocation"
    __table_args__ = (Index("revocation_at", "revoked_at"),)

    tenant: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    revoked_at: datetime = _time(nullable=False)
    erased_at: datetime | None = _time()


class LastSeen(SQLModel, table=True):
    """When a user was last connected, who is not any more. Who is connected now, Redis says."""

    __tablename__ = "presence"
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)

    tenant: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    last_seen_at: datetime = _time(nullable=False)


class Room(SQLModel, table=True):
    """One room's numbered log. The row stays when nothing is left in it, so that its numbers never begin again.

    What it keeps is what the settings said when somebody last published; `trim_at` is when there may be too much.
    """

    __tablename__ = "room"
    __table_args__ = (
        Index("room_name", "tenant", "name", unique=True),
        Index("room_trim", "trim_at", postgresql_where=text("trim_at IS NOT NULL")),
        CheckConstraint("floor_seq <= last_seq", name="room_order"),
        CheckConstraint("length(name) BETWEEN 1 AND 128", name="room_name_length"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    tenant: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    last_seq: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    floor_seq: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    keep_events: int
    keep_s: int
    trim_at: datetime | None = _time()


class RoomEvent(SQLModel, table=True):
    """What happened to a room's entity: an event with its number."""

    __tablename__ = "room_event"
    __table_args__ = (
        Index(
            "room_event_idempotency",
            "room_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    room_id: int = Field(sa_type=BigInteger, primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    event: str = Field(sa_type=Text)
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    at: datetime = _time(default=True, nullable=False)
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    body_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
