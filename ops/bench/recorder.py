"""Bookkeeping of one run: what was sent, what arrived when, what came twice, what never came, and in which order.

Pure: it is told the times. Every number that was sent ends as exactly one of arrived, refused or lost.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NEVER = -1.0


class Recorder:
    """One stream of notifications, numbered from 0. Times are in seconds, of one monotonic clock."""

    def __init__(self, count: int) -> None:
        self._sent_at = [_NEVER] * count
        self._arrived_at = [_NEVER] * count
        self._refused: set[int] = set()
        self.sent_count = 0
        self.arrived_count = 0
        self.duplicates = 0
        self.last_arrival = _NEVER

    def sent(self, numbers: Iterable[int], at: float) -> None:
        """Note that a request with these numbers leaves now."""
        for number in numbers:
            self._sent_at[number] = at
            self.sent_count += 1

    def refused(self, numbers: Iterable[int]) -> None:
        """Note that the stack did not accept these: they may arrive or not, and are not lost."""
        self._refused.update(numbers)

    def arrived(self, number: int, at: float) -> None:
        """Note an arrival at a socket; a second one of the same number is a duplicate."""
        if not 0 <= number < len(self._arrived_at) or self._arrived_at[number] != _NEVER:
            self.duplicates += 1  # what nobody sent counts as one too: it must not happen either
            return
        self._arrived_at[number] = at
        self.arrived_count += 1
        self.last_arrival = at

    @property
    def waiting(self) -> int:
        """How many were sent, not refused, and have not arrived."""
        if not self._refused:
            return self.sent_count - self.arrived_count
        return sum(
            sent != _NEVER and arrived == _NEVER and number not in self._refused
            for number, (sent, arrived) in enumerate(zip(self._sent_at, self._arrived_at, strict=True))
        )

    @property
    def refused_count(self) -> int:
        """How many were not accepted."""
        return len(self._refused)

    def latencies(self) -> list[float]:
        """Return the seconds from POST to arrival of all that arrived, ascending."""
        pairs = zip(self._sent_at, self._arrived_at, strict=True)
        return sorted(arrived - sent for sent, arrived in pairs if _NEVER not in {arrived, sent})


class InboxOrder:
    """The promise of one client: each frame starts where the last one ended, and its entries ascend within it."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.violations = 0

    def starts_after(self, seq: int) -> None:
        """Take the number that `ready` names. A client that comes back must go on from where it left off."""
        self.violations += self.last not in {None, seq}
        self.last = seq

    def frame(self, first: int, last: int, seqs: Sequence[int]) -> None:
        """Check one `inbox` frame, `first` to `last`. Numbers may be left out of it, but never swapped."""
        follows = self.last is not None and first == self.last + 1
        bounds = [first - 1, *seqs, last + 1]
        ascends = all(left < right for left, right in pairwise(bounds))
        self.violations += not (follows and ascends)
        self.last = last


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of all values do not exceed; None where there are none."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None
