"""What a backend asks about one user, and does to them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints, TypeAdapter, field_validator

from models.contracts.base import Answer, Message
from models.fields import Watched
from models.states import PresenceStatus, Reason


class ExplainQuery(Message):
    """Which notification a recipient is asked about."""

    notification: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Its id."""


class ExplainedEvent(Answer):
    """One thing that happened to a notification on its way to one user; `at` is null where nobody noted it."""

    at: datetime | None
    event: str
    """A word for programs."""
    detail: str
    """A sentence for people."""


class ExplainOut(Answer):
    """Why one user has a notification, or has it not. `seq` is its number in their inbox, where it came to that."""

    user: str
    notification: UUID
    reason: Reason
    """Why, for programs."""
    verdict: str
    """Why, as a sentence."""
    seq: int | None
    timeline: list[ExplainedEvent]


_NAMES = TypeAdapter(Watched)


class PresenceQuery(Message):
    """What `GET /v1/presence` takes: names, separated by commas."""

    users: Annotated[str, StringConstraints(min_length=1, max_length=13_000)]
    """Up to 100 ids, separated by commas."""

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
    """Of their inbox."""
    changes: int
    """Of its log."""
    notifications: int
    """That named nobody else."""
    shared_notifications: int
    suppressions: int
    """What was kept from them."""
    digests: int
    """What gathered for them."""
    subscriptions: int
    preferences: int


class EraseOut(Answer):
    """What was erased of a user, whose tokens from before `revoked_at` are refused."""

    user: str
    revoked_at: datetime
    erased: ErasedCounts
