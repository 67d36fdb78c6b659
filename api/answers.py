"""Answers about inboxes that hold as long as the inbox stands at the same number.

Everything that a list or a count says changes only together with the inbox's number, in one transaction. So an answer
that was read at a number is the answer at that number, and to know that it still holds, reading the number is enough.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import telemetry

if TYPE_CHECKING:
    from collections.abc import Hashable

    from models.inbox import Head

_MOST_BYTES = 32 * 1024 * 1024
_OVERHEAD = 500  # what an entry takes beside its body, roughly


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's body, and the inbox and number at which it was read. An inbox that nobody wrote to has neither."""

    inbox: int
    number: int
    body: bytes

    def holds_at(self, head: Head) -> bool:
        """Say whether the inbox still stands where it stood."""
        return (self.inbox, self.number) == (head.inbox, head.head)


class Answers:
    """The answers that were asked for last, bounded in bytes."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._kept: OrderedDict[Hashable, Answer] = OrderedDict()
        self._most_bytes = most_bytes
        self._bytes = 0

    def get(self, question: Hashable) -> Answer | None:
        """Return the last answer, whether or not it still holds."""
        answer = self._kept.get(question)
        if answer is not None:
            self._kept.move_to_end(question)
        return answer

    def keep(self, question: Hashable, answer: Answer) -> None:
        """Remember an answer that was just read."""
        telemetry.answers.labels("read").inc()
        self._drop(question)
        self._kept[question] = answer
        self._bytes += _size(answer)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, question: Hashable) -> None:
        old = self._kept.pop(question, None)
        if old is not None:
            self._bytes -= _size(old)


def _size(answer: Answer) -> int:
    return len(answer.body) + _OVERHEAD
