"""What gathers for a user until it arrives as one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Text, text
from sqlmodel import Field, SQLModel

from models.tables.columns import time_column


class Digest(SQLModel, table=True):
    """A batch of a user's notifications of one type and key. Of those that are open there is one; none opens again.

    `notification_id` is what it arrived as; null where it is open, or closed with nothing left in it.
    """

    __tablename__ = "digest"
    __table_args__ = (
        Index(
            "digest_open",
            "tenant",
            "user_id",
            "type",
            "key",
            unique=True,
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index("digest_due", "closes_at", postgresql_where=text("closed_at IS NULL")),
        Index("digest_user", "tenant", "user_id", "id"),
        CheckConstraint("notification_id IS NULL OR closed_at IS NOT NULL", name="digest_arrives_when_closed"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    tenant: str = Field(sa_type=Text)
    user_id: str = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    key: str = Field(sa_type=Text)
    opened_at: datetime = time_column(default=True, nullable=False)
    closes_at: datetime = time_column(nullable=False)
    closed_at: datetime | None = time_column()
    notification_id: UUID | None = None


class DigestEntry(SQLModel, table=True):
    """A notification in a digest. `position` is the order in which they came."""

    __tablename__ = "digest_entry"
    __table_args__ = (Index("digest_entry_notification", "notification_id", "digest_id"),)

    digest_id: int = Field(sa_type=BigInteger, primary_key=True)
    position: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    notification_id: UUID
    at: datetime = time_column(default=True, nullable=False)
