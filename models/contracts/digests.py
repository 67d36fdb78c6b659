"""What gathers for a user until it arrives as one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from models.contracts.base import Answer
from models.states import Priority


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
    """When it arrives by itself."""
    count: int
    """How many wait in it."""
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
    """How many arrive in it."""
    notification: UUID | None


class ClosedDigests(Answer):
    """What was closed, up to 100. Where `more` is true, there are others: call again."""

    user: str
    closed: list[ClosedDigest]
    more: bool
