"""What happens in a room, and its log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from models.contracts.base import Answer, Message
from models.fields import Data, Name


class RoomEventIn(Message):
    """What happened to a room's entity. Members of the room get it with a number."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"event": "order.updated", "data": {"order_id": 42, "status": "packed"}}}
    )

    event: Name
    """A name that clients know, such as `order.updated`."""
    data: Data = Field(default_factory=dict)
    """What they need: 16 KiB as JSON, 32 levels deep."""


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
