"""What is kept to answer questions with. Nothing that is delivered depends on it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, Column, Index, SmallInteger, Text, text
from sqlmodel import Field, SQLModel

from models.tables.columns import time_column


class Pushed(SQLModel, table=True):
    """What one node was told after one batch: each of `stretches` is an inbox, and its first and last number of it.

    A batch is found by `dispatched_at`, which is the `delivered_at` of all its deliveries, and its priority. One that
    no node was told of has a row whose node is empty. `notification_id` stands where all of it is of one broadcast.
    """

    __tablename__ = "pushed"
    __table_args__ = (
        Index("pushed_broadcast", "notification_id", postgresql_where=text("notification_id IS NOT NULL")),
    )

    dispatched_at: datetime = time_column(nullable=False, primary_key=True)
    priority: int = Field(sa_type=SmallInteger, primary_key=True)
    node: str = Field(sa_type=Text, primary_key=True)
    at: datetime = time_column(nullable=False)
    notification_id: UUID | None = None
    users: int  # as many as there are stretches, for whoever only counts
    stretches: list[list[int]] = Field(sa_column=Column(JSON, nullable=False))  # not compressed: that would cost most


class Unaccounted(SQLModel, table=True):
    """A notification that was found neither on its way nor at an end. Empty, unless something is wrong."""

    __tablename__ = "unaccounted"

    notification_id: UUID = Field(primary_key=True)
    found_at: datetime = time_column(default=True, nullable=False)
