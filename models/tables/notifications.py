"""What was said, and how far it is: notifications, and what is still to be done about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from models.tables.columns import time_column


class Notification(SQLModel, table=True):
    """What was said. Immutable, but that a user who is erased is taken out of its audience.

    `texts` is title and body by locale, where its type has several; else null. Where it has a `digest_every`, it
    waits in the digest of each recipient that has this `digest_key`.
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
    critical_overrides: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # as it was sent: jsonb writes 1e300 out
    audience: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    actor: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    action_url: str | None = Field(default=None, sa_type=Text)
    collapse_key: str | None = Field(default=None, sa_type=Text)
    deliver_at: datetime | None = time_column()
    expires_at: datetime | None = time_column()
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    body_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    digest_every: str | None = Field(default=None, sa_type=Text)
    digest_key: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = time_column(default=True, nullable=False)


class NotificationEvent(SQLModel, table=True):
    """What befell a notification other than being accepted and dispatched: expired, parked, replayed."""

    __tablename__ = "notification_event"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    notification_id: UUID = Field(index=True)
    at: datetime = time_column(default=True, nullable=False)
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
    due_at: datetime = time_column(default=True, nullable=False)
    attempts: int = Field(sa_type=SmallInteger, sa_column_kwargs={"server_default": text("0")})
    withdraws: str | None = Field(default=None, sa_type=Text)  # a `models.states.Cause`; null: it is to be delivered


class Broadcast(SQLModel, table=True):
    """How far a notification to a topic or to everyone is: all up to the user `cursor` have it, `reached` of them."""

    __tablename__ = "broadcast"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    notification_id: UUID = Field(primary_key=True)
    cursor: str = Field(sa_type=Text)
    reached: int = Field(sa_type=BigInteger)
    started_at: datetime = time_column(default=True, nullable=False)
    done_at: datetime | None = time_column()


class Withdrawal(SQLModel, table=True):
    """A notification that is taken out of inboxes: up to the inbox `cursor`, so far out of `withdrawn` of them.

    Where it was cancelled, `cancelled` users never get it, `recalled` lose it, and `already_read` had read it. That is
    so once it is `counted`. `due_at` is that of the outbox row that was taken out; null where there was none.
    """

    __tablename__ = "withdrawal"
    __table_args__ = (
        CheckConstraint("cause IN ('recalled', 'expired')", name="withdrawal_cause"),
        Index("withdrawal_uncounted", "at", postgresql_where=text("NOT counted")),
    )

    notification_id: UUID = Field(primary_key=True)
    cause: str = Field(sa_type=Text, primary_key=True)
    at: datetime = time_column(default=True, nullable=False)
    cancelled: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    recalled: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    withdrawn: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    already_read: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    counted: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    due_at: datetime | None = time_column()
    cursor: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})


class Expiry(SQLModel, table=True):
    """A notification that is to leave every inbox at `expires_at`; it goes into the outbox then."""

    __tablename__ = "expiry"
    __table_args__ = (Index("expiry_due", "expires_at"),)

    notification_id: UUID = Field(primary_key=True)
    priority: int = Field(sa_type=SmallInteger)
    expires_at: datetime = time_column(nullable=False)


class Parked(SQLModel, table=True):
    """Outbox rows that could not be dispatched, with the reason, until an operator replays them."""

    __tablename__ = "parked"

    notification_id: UUID = Field(primary_key=True)
    priority: int = Field(sa_type=SmallInteger)
    attempts: int = Field(sa_type=SmallInteger)
    reason: str = Field(sa_type=Text)
    parked_at: datetime = time_column(default=True, nullable=False)


class Suppression(SQLModel, table=True):
    """A notification that a user did not get, and the rule that kept it from them."""

    __tablename__ = "suppression"
    __table_args__ = (Index("suppression_user", "user_id", "notification_id"),)

    notification_id: UUID = Field(primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    rule: str = Field(sa_type=Text)
    at: datetime = time_column(default=True, nullable=False)


class TopicSubscription(SQLModel, table=True):
    """A user is told what is sent to a topic. What was due before `subscribed_at` is not for them."""

    __tablename__ = "topic_subscription"
    __table_args__ = (Index("topic_subscription_user", "tenant", "user_id", "topic"),)

    tenant: str = Field(sa_type=Text, primary_key=True)
    topic: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    subscribed_at: datetime = time_column(default=True, nullable=False)
