"""What users have: inboxes with their deliveries and changes, and what they do not want."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from models.tables.columns import time_column


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
    created_at: datetime = time_column(default=True, nullable=False)
    acked_from: int | None = Field(default=None, sa_type=BigInteger)  # only nodes from before 0019 write this, and
    acked_at: datetime | None = time_column()  # this; a later migration is to drop both


class Ack(SQLModel, table=True):
    """When a device of a user said that it holds everything after `since`, up to `seq`.

    It stays as long as there is a delivery that it is about.
    """

    __tablename__ = "ack"
    __table_args__ = (CheckConstraint("since < seq", name="ack_order"),)

    inbox_id: int = Field(sa_type=BigInteger, primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    since: int = Field(sa_type=BigInteger)
    at: datetime = time_column(nullable=False)


class Delivery(SQLModel, table=True):
    """One notification in one inbox.

    The row stays when it is deleted, so that senders' counts stay true, until the log no longer reaches back to it.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        CheckConstraint("read_at IS NULL OR seen_at IS NOT NULL", name="delivery_read_was_seen"),
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
            "delivery_waiting",  # what is unread; so what is unseen, too: whatever is read was seen
            "inbox_id",
            "seq",
            "archived_at",  # as above
            "seen_at",
            postgresql_where=text("read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL"),
        ),
        Index("delivery_deleted", "inbox_id", "seq", postgresql_where=text("deleted_at IS NOT NULL")),
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
    overtook: int | None = None  # how many older ones came after it, for which its successor stands, too
    delivered_at: datetime = time_column(default=True, nullable=False)
    seen_at: datetime | None = time_column()
    read_at: datetime | None = time_column()
    archived_at: datetime | None = time_column()
    deleted_at: datetime | None = time_column()


class InboxChange(SQLModel, table=True):
    """A numbered change to an inbox. "Read all" is one row here, however many deliveries it touched."""

    __tablename__ = "inbox_change"
    __table_args__ = (CheckConstraint("(seqs IS NULL) <> (up_to IS NULL)", name="inbox_change_target"),)

    inbox_id: int = Field(sa_type=BigInteger, primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    action: str = Field(sa_type=Text)
    seqs: list[int] | None = Field(default=None, sa_column=Column(ARRAY(BigInteger)))
    up_to: int | None = Field(default=None, sa_type=BigInteger)
    at: datetime = time_column(default=True, nullable=False)


class Preference(SQLModel, table=True):
    """What a user does not want, as `models.contracts.PreferencesIn` has checked it.

    `token_locale` is what their last token with a locale said; it counts where the body names none.
    """

    __tablename__ = "preference"

    tenant: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    updated_at: datetime = time_column(default=True, nullable=False)
    token_locale: str | None = Field(default=None, sa_type=Text)


class RetentionRound(SQLModel, table=True):
    """How far a look through all inboxes, or notifications, has come: up to `cursor`; empty: it has ended."""

    __tablename__ = "retention_round"

    what: str = Field(sa_type=Text, primary_key=True)
    cursor: str = Field(sa_type=Text)
    began_at: datetime = time_column(default=True, nullable=False)
