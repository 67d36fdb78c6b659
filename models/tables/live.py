"""What is there for as long as somebody is: rooms, presence, and whose tokens are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

from models.tables.columns import time_column


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
    trim_at: datetime | None = time_column()


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
    at: datetime = time_column(default=True, nullable=False)
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    body_hash: bytes | None = Field(default=None, sa_type=LargeBinary)


class LastSeen(SQLModel, table=True):
    """When a user was last connected, who is not any more. Who is connected now, Redis says."""

    __tablename__ = "presence"
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)

    tenant: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    last_seen_at: datetime = time_column(nullable=False)


class Revocation(SQLModel, table=True):
    """Tokens of this user that were issued before `revoked_at` are refused.

    It is all that is kept of a user who was erased at `erased_at`: without it, older tokens would be good again.
    """

    __tablename__ = "revocation"
    __table_args__ = (Index("revocation_at", "revoked_at"),)

    tenant: str = Field(sa_type=Text, primary_key=True)
    user_id: str = Field(sa_type=Text, primary_key=True)
    revoked_at: datetime = time_column(nullable=False)
    erased_at: datetime | None = time_column()
