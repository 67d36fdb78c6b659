"""What was published and what arrived: who should have got it, who did, and how long it took.

An arrival may be known before the answer to the POST that caused it: the push and the answer go different ways. Until
no POST is under way, it waits for its answer. What nobody here has posted is shown, too, and not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.demo.screen import Line

NOTIFICATION, EVENT = "notification", "event"
Key = tuple[str, str]  # which of the two it is, and its id, or its room and number


def event_key(room: str, seq: int) -> Key:
    """Return the key of a room's event."""
    return EVENT, f"{room}#{seq}"


@dataclass(frozen=True, slots=True)
class Posted:
    """Something that was accepted. `due` is when its way began, monotonic: its POST, or the time it was kept for."""

    key: Key
    domain: str
    receivers: frozenset[str]  # the devices that are to get it
    away: int  # people whose inbox it waits in
    due: float
    scheduled: bool
    collapse_key: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that came to a device. `line` is how it is shown."""

    key: Key
    device: str
    at: float
    line: Line


@dataclass(slots=True)
class Domain:
    """A domain's figures. Delays are in milliseconds; those of scheduled notifications stand apart."""

    published: Counter[str] = field(default_factory=Counter)
    arrived: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)
    scheduled_delays: list[float] = field(default_factory=list)
    away: int = 0

    def add(self, other: Domain) -> None:
        """Add another domain's figures."""
        self.published += other.published
        self.arrived += other.arrived
        self.delays += other.delays
        self.scheduled_delays += other.scheduled_delays
        self.away += other.away


class Ledger:
    """The books of one run. `frames` counts what came, whatever was in it; `faults` are broken promises."""

    def __init__(self, show: Callable[[Line, float | None], None]) -> None:
        self.domains: dict[str, Domain] = {}
        self.frames = 0
        self.entries = 0
        self.faults: list[str] = []
        self.booked = asyncio.Event()  # set whenever something has arrived
        self._show = show
        self._posted: dict[Key, Posted] = {}
        self._waiting: dict[tuple[Key, str], Posted] = {}  # what is still to arrive, and where
        self._got: set[tuple[Key, str]] = set()
        self._early: list[Arrival] = []
        self._under_way = 0

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Tell that a POST is under way; when none is, whatever is not known yet is not ours."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                foreign, self._early = self._early, []
                for arrival in foreign:
                    self._show(arrival.line, None)

    def accepted(self, posted: Posted) -> None:
        """Book what was accepted, and what of it has already arrived."""
        self._posted[posted.key] = posted
        domain = self.domains.setdefault(posted.domain, Domain())
        domain.published[posted.key[0]] += 1
        domain.away += posted.away
        self._waiting.update(((posted.key, device), posted) for device in posted.receivers)
        early = [arrival for arrival in self._early if arrival.key == posted.key]
        self._early = [arrival for arrival in self._early if arrival.key != posted.key]
        for arrival in early:
            self._settle(arrival)

    def changed(self, line: Line) -> None:
        """Book a change of what had arrived before."""
        self.entries += 1
        self._show(line, None)

    def arrived(self, arrival: Arrival) -> None:
        """Book an arrival."""
        self.entries += 1
        self._settle(arrival)

    def _settle(self, arrival: Arrival) -> None:
        posted = self._posted.get(arrival.key)
        if posted is None:
            if self._under_way:
                self._early.append(arrival)
            else:
                self._show(arrival.line, None)
            return
        place = (arrival.key, arrival.device)
        self._waiting.pop(place, None)
        if place in self._got:
            self.faults.append(f"{arrival.device} got twice: {arrival.line.text}")
        self._got.add(place)
        domain = self.domains[posted.domain]
        domain.arrived[arrival.key[0]] += 1
        took_ms = max(0.0, arrival.at - posted.due) * 1000
        (domain.scheduled_delays if posted.scheduled else domain.delays).append(took_ms)
        self._show(arrival.line, took_ms)
        self.booked.set()

    def missing(self) -> list[tuple[Key, str]]:
        """Return what has not arrived, and where; without what a newer one of its collapse key stands for."""
        newest: dict[tuple[str, str, str], float] = {}
        for key, device in self._got:
            if (posted := self._posted[key]).collapse_key:
                which = (device, posted.domain, posted.collapse_key)
                newest[which] = max(posted.due, newest.get(which, 0.0))
        return [
            (key, device)
            for (key, device), posted in self._waiting.items()
            if posted.due >= newest.get((device, posted.domain, posted.collapse_key or ""), 0.0)
        ]

    def last_due(self) -> float:
        """Return the latest time, monotonic, for which something was kept that is still to arrive."""
        return max((posted.due for posted in self._waiting.values()), default=time.monotonic())
