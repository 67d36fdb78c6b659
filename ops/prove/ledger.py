"""What the stack has promised so far: each notification and event that it accepted, each action that it confirmed.

Invariant: only what an answer said stands here; a request without an answer is its poster's business until it has one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.states import Priority
from ops.prove.alarm import ViolationError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime


DOMAINS = ("shop", "tasks", "blog")
MUTED = "blog"  # by some users, from the beginning
# Types that are registered: with texts in two languages, with a time to live and a schema, and with a digest.
WORDED, BRIEF, GATHERED = "shop.proof.worded", "tasks.proof.brief", "blog.proof.gathered"


@dataclass(frozen=True, slots=True)
class Posted:
    """One notification as its poster meant it; `nth` counts what the poster has posted.

    `topic` is what it was sent to, where it names no users; `users` are then the topic's subscribers. `registered` is
    the type, where that is one of the catalogue.
    """

    key: str
    poster: int
    nth: int
    users: tuple[str, ...]
    priority: str
    deliver_at: datetime | None = None
    expires_at: datetime | None = None
    topic: str = ""
    collapse_key: str = ""
    registered: str = ""

    @property
    def type(self) -> str:
        """What it is sent as."""
        return self.registered or f"{DOMAINS[self.nth % len(DOMAINS)]}.proof.posted"

    @property
    def domain(self) -> str:
        """What its type begins with."""
        return self.type.partition(".")[0]

    @property
    def is_worded(self) -> bool:
        """Whether templates say what it says."""
        return self.registered in {WORDED, GATHERED}

    @property
    def may_expire(self) -> bool:
        """Whether it has an end: its own, or its type's."""
        return self.expires_at is not None or self.registered == BRIEF

    @property
    def gathers(self) -> bool:
        """Whether it waits in a digest, with each of its recipients."""
        return self.registered == GATHERED and self.priority in {Priority.NORMAL, Priority.LOW}

    def is_refused_by(self, user: str, muting: Collection[str]) -> bool:
        """Say whether it is not to arrive with a user, where those who are `muting` want nothing of `MUTED`."""
        return user in muting and self.domain == MUTED and self.priority != Priority.CRITICAL


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was answered to who cancelled a notification: how many users each of it is true for."""

    cancelled: int
    recalled: int
    already_read: int


@dataclass(frozen=True, slots=True)
class Said:
    """One event as its speaker meant it; `nth` counts what the speaker has said."""

    key: str
    room: str
    speaker: int
    nth: int


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
        self.muting: frozenset[str] = frozenset()
        self.locales: dict[str, str] = {}  # of users; who has none is not here
        self.refused = 0  # what did not fit its type's schema, and was not to be accepted
        self.cancelled: dict[str, Cancelled] = {}
        self.acted: list[Acted] = []
        self.said: dict[tuple[str, int], Said] = {}  # by room and number
        self.statuses: Counter[str] = Counter()
        self.retries = 0
        self.confirmed = 0  # actions, those that found nothing to change, too
        self.unanswered = 0  # actions without an answer: done or not, the database says
        self._ids: dict[str, str] = {}
        self._seqs: dict[str, int] = {}

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

    def cancel(self, notification_id: str, answer: Cancelled) -> None:
        """Note an answer. Raises `ViolationError` where it was answered otherwise before."""
        if self.cancelled.setdefault(notification_id, answer) != answer:
            msg = f"cancelling {notification_id} was answered {self.cancelled[notification_id]}, and later {answer}"
            raise ViolationError(msg)

    def say(self, said: Said, seq: int) -> None:
        """Note an event's answer. Raises `ViolationError` where it, or its number, was answered otherwise before."""
        earlier = self._seqs.setdefault(said.key, seq)
        if earlier != seq:
            msg = f"the event {said.key} was answered with {earlier}, and later with {seq}"
            raise ViolationError(msg)
        if self.said.setdefault((said.room, seq), said) != said:
            other = self.said[said.room, seq].key
            msg = f"the events {other} and {said.key} were both answered with {seq} of {said.room}"
            raise ViolationError(msg)
