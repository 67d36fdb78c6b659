"""What the stack has promised so far: each notification that it accepted, and each action that it confirmed.

Invariant: only what an answer said stands here; a request without an answer is its poster's business until it has one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.prove.alarm import ViolationError

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Posted:
    """One notification as its poster meant it; `nth` counts what the poster has posted."""

    key: str
    poster: int
    nth: int
    users: tuple[str, ...]
    priority: str
    deliver_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Acted:
    """One action that was confirmed: it stands in the inbox's log under `seq`."""

    user: str
    seq: int
    action: str


class Ledger:
    """All promises of one seed."""

    def __init__(self) -> None:
        self.accepted: dict[str, Posted] = {}
        self.acted: list[Acted] = []
        self.statuses: Counter[str] = Counter()
        self.retries = 0
        self.confirmed = 0  # actions, those that found nothing to change, too
        self.unanswered = 0  # actions without an answer: done or not, the database says
        self._ids: dict[str, str] = {}

    def accept(self, posted: Posted, notification_id: str) -> None:
        """Note an answer. Raises `ViolationError` where the same key was answered otherwise before."""
        earlier = self._ids.setdefault(posted.key, notification_id)
        if earlier != notification_id:
            msg = f"the key {posted.key} was answered with {earlier}, and later with {notification_id}"
            raise ViolationError(msg)
        if self.accepted.setdefault(notification_id, posted) != posted:
            other = self.accepted[notification_id].key
            msg = f"the keys {other} and {posted.key} were both answered with {notification_id}"
            raise ViolationError(msg)
