"""Who gets a notification. A pure decision: no session, no clock, no side effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class DiscardError(Exception):
    """The row can never be dispatched as it is; the text is the reason that an operator reads."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Write a delivery for each of `users`, in this order."""

    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FanOut:
    """Write a delivery for each subscriber of `topic`, or for everyone where it is None; but not for `excluded`."""

    topic: str | None
    excluded: str = ""


@dataclass(frozen=True, slots=True)
class Expire:
    """Nobody gets it any more; `detail` goes to the timeline."""

    detail: str


def choose(
    audience: Mapping[str, Any], expires_at: datetime | None, now: datetime, actor: str = ""
) -> Deliver | FanOut | Expire:
    """Decide what becomes of a due notification, which the user `actor` caused.

    Raises `DiscardError` where its audience cannot be resolved.
    """
    if expires_at is not None and expires_at <= now:
        return Expire(f"was to be delivered before {expires_at.isoformat()}")
    match audience:
        case {"user": str(user)}:
            return Deliver((user,))
        case {"users": [*users]} if all(isinstance(user, str) for user in users):
            return Deliver(tuple(users))
        case {"topic": str(topic)}:
            return FanOut(topic, actor if audience.get("exclude_actor") else "")
        case {"everyone": True}:
            return FanOut(None, actor if audience.get("exclude_actor") else "")
        case _:
            msg = f"its audience has no resolvable kind: {', '.join(sorted(audience)) or 'empty'}"
            raise DiscardError(msg)
