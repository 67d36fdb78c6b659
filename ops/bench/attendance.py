"""The books of one room: which of its events reached which member when, what came twice, and what broke the order.

Pure: it is told the times. Every event that was sent and not refused must reach every member exactly once; where the
stack numbers what it sends, each frame must begin where the last one of that member ended. Tens of thousands of frames
per second are noted here, so everything has its place before the first one comes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NEVER = -1.0


@dataclass(frozen=True, slots=True)
class Said:
    """What one `room` event says: our numbers, and the stretch of the room's log that it spans, where there is one."""

    numbers: tuple[int, ...]
    first: int | None = None
    last: int | None = None
    whole: bool = True  # every number of the stretch is there, in order

    @classmethod
    def of(cls, payload: dict[str, Any]) -> Said:
        """Read a Bellhop frame, which has entries, or a plain event."""
        if (entries := payload.get("entries")) is None:
            return cls((payload["data"]["number"],))
        first, last = payload["from"], payload["to"]
        whole = [entry["seq"] for entry in entries] == list(range(first, last + 1))
        return cls(tuple(entry["data"]["number"] for entry in entries), first, last, whole)

    @classmethod
    def in_packet(cls, packet: bytes) -> Said:
        """Read a Socket.IO packet with one such event."""
        return cls.of(orjson.loads(packet[packet.index(b"[") :])[1])


class Attendance:
    """Events are numbered from 0, and so are members. Times are in seconds, of one monotonic clock."""

    def __init__(self, events: int, members: int) -> None:
        self.frames = self.arrived_count = self.duplicates = self.order_violations = 0
        self.last_arrival = _NEVER
        self.on_everywhere: Callable[[int], None] = lambda _: None  # told of each event that every member has
        self._events = events
        self._members = members
        self._sent_at = array("d", [_NEVER]) * events
        self._arrived_at = array("d", [_NEVER]) * (events * members)  # by event, then by member
        self._missing = [members] * events  # how many members an event has not reached
        self._last: list[int | None] = [None] * members
        self._refused: set[int] = set()

    def joined(self, member: int, seq: int | None) -> None:
        """Note where in the room's log a member begins; None where there is no log."""
        self._last[member] = seq

    def sent(self, number: int, at: float) -> None:
        """Note that an event's request leaves now."""
        self._sent_at[number] = at

    def refused(self, number: int) -> None:
        """Note that the stack did not accept it: it may arrive or not, and is not lost."""
        self._refused.add(number)

    def frame(self, member: int, said: Said, at: float) -> None:
        """Note what a member was told. What nobody sent counts as a duplicate: it must not happen either."""
        self.frames += 1
        if said.first is not None:
            if self._last[member] != said.first - 1 or not said.whole:
                self.order_violations += 1
            self._last[member] = said.last
        for number in said.numbers:
            place = number * self._members + member
            if not 0 <= number < self._events or self._arrived_at[place] != _NEVER:
                self.duplicates += 1
                continue
            self._arrived_at[place] = at
            self.arrived_count += 1
            self.last_arrival = at
            self._missing[number] = left = self._missing[number] - 1
            if not left:
                self.on_everywhere(number)

    @property
    def waiting(self) -> int:
        """How many arrivals are still to come: of events that were sent and not refused, at members without them."""
        return sum(
            missing
            for number, (missing, at) in enumerate(zip(self._missing, self._sent_at, strict=True))
            if missing and at != _NEVER and number not in self._refused
        )

    @property
    def refused_count(self) -> int:
        """How many events were not accepted."""
        return len(self._refused)

    def latencies(self, numbers: Iterable[int]) -> list[float]:
        """Return the seconds from the POST to each arrival of these events, ascending."""
        taken: list[float] = []
        for number in numbers:
            sent, theirs = self._sent_at[number], slice(number * self._members, (number + 1) * self._members)
            taken += [arrived - sent for arrived in self._arrived_at[theirs] if _NEVER not in {sent, arrived}]
        return sorted(taken)
