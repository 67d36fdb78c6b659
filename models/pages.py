"""Pages of the numbered logs, of inboxes and of rooms alike: a stretch without a gap, small enough to be swallowed.

Invariant: a page accounts for every number from `first` to `last`, whether or not an entry is left of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from models import frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_PAGE_BYTES = 256 * 1024


class Page(ABC):
    """A stretch of one log. `reset`: what was asked for is no longer kept, or is beyond the head."""

    def __init__(self, since: int, size: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Read the rows that answer one question; at least one row, which has no `seq` where there is no entry."""
        box = rows[0]
        self.head: int = box["head"]
        self.reset = since > self.head or since < box["floor"]
        start = self.head if self.reset else since
        self.first = start + 1
        self.last = min(self.head, start + size)
        self.entries: list[bytes] = []
        if not self.reset:
            self._fill(rows)

    def _fill(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take entries until the page is as large as a message may be: a client must be able to swallow it."""
        length = 0
        for row in rows:
            if row["seq"] is None:
                continue
            encoded = self._entry(row)
            length += len(encoded)
            if self.entries and length > MAX_PAGE_BYTES:
                self.last = row["seq"] - 1
                return
            self.entries.append(encoded)

    @abstractmethod
    def _entry(self, row: Mapping[str, Any]) -> bytes:
        """Return a row's JSON."""

    @abstractmethod
    def packet(self) -> bytes:
        """Return the page as a Socket.IO packet."""

    @abstractmethod
    def as_json(self) -> bytes:
        """Return the page as REST answers it."""


class InboxPage(Page):
    """A stretch of an inbox's log, with its counts. Its rows are those of `queries.inbox.LOG_PAGES`."""

    def __init__(self, since: int, size: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.unread: int = rows[0]["unread"]
        self.unseen: int = rows[0]["unseen"]
        super().__init__(since, size, rows)

    def _entry(self, row: Mapping[str, Any]) -> bytes:
        return frames.entry(row)

    def as_frame(self) -> bytes:
        """Return the page as the payload of an `inbox` event."""
        return frames.inbox_frame(self.first, self.last, self.entries, self.unread, self.unseen)

    def packet(self) -> bytes:
        """Return the page as the `inbox` event."""
        return frames.event_packet("inbox", self.as_frame())

    def as_json(self) -> bytes:
        """Return the page as `GET /v1/inbox/log` and the `sync` event answer it."""
        return b'{"from":%d,"to":%d,"head":%d,"reset":%b,"entries":[%b],"counts":%b}' % (
            self.first,
            self.last,
            self.head,
            b"true" if self.reset else b"false",
            b",".join(self.entries),
            frames.counts(self.unread, self.unseen),
        )


class RoomPage(Page):
    """A stretch of a room's log. Its rows are those of `queries.rooms.ROOM_LOG_PAGES`."""

    def __init__(self, room: str, since: int, size: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.room = room
        super().__init__(since, size, rows)

    def _entry(self, row: Mapping[str, Any]) -> bytes:
        return frames.room_entry(row["seq"], row["event"], row["data"], row["at"])

    def as_frame(self) -> bytes:
        """Return the page as the payload of a `room` event."""
        return frames.room_frame(self.room, self.first, self.last, b",".join(self.entries))

    def packet(self) -> bytes:
        """Return the page as the `room` event."""
        return frames.event_packet("room", self.as_frame())

    def as_json(self) -> bytes:
        """Return the page as `GET /v1/rooms/{room}/log` answers it."""
        return b'{"room":"%b","from":%d,"to":%d,"head":%d,"reset":%b,"entries":[%b]}' % (
            self.room.encode(),
            self.first,
            self.last,
            self.head,
            b"true" if self.reset else b"false",
            b",".join(self.entries),
        )


def grouped(how_many: int, rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Sort the rows of one query to the questions, numbered by `ord`, that they answer."""
    answers: list[list[Mapping[str, Any]]] = [[] for _ in range(how_many)]
    for row in rows:
        answers[row["ord"]].append(row)
    return answers
