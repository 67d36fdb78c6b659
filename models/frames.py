"""The JSON that clients receive, assembled as bytes from rows.

Content is encoded once per notification; a recipient's copy differs only in its number, so it is concatenation.
`models.contracts` says what these bytes look like, and the tests hold one against the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_UTC = orjson.OPT_UTC_Z
MAX_PAGE_BYTES = 256 * 1024


def dumps(value: object) -> bytes:
    """Encode `value` as JSON; times come out in UTC with a Z."""
    return orjson.dumps(value, option=_UTC)


def _fragment(text: str | None) -> object:
    return None if text is None else orjson.Fragment(text)


def item_tail(row: Mapping[str, Any], priority: Priority, *, fresh: bool) -> bytes:
    """Return an Item's JSON from behind its `seq`. `fresh`: as it arrived, whatever has become of it since."""
    return dumps(
        {
            "id": row["id"],
            "type": row["type"],
            "domain": row["domain"],
            "priority": priority,
            "title": row["title"],
            "body": row["body"],
            "data": _fragment(row["data"]),
            "action_url": row["action_url"],
            "actor": _fragment(row["actor"]),
            "collapse_key": row["collapse_key"],
            "collapsed": 0,
            "silent": False,
            "created_at": row["created_at"],
            "seen_at": None if fresh else row["seen_at"],
            "read_at": None if fresh else row["read_at"],
            "archived_at": None if fresh else row["archived_at"],
            "expires_at": row["expires_at"],
        }
    )[1:]


def item(seq: int, tail: bytes) -> bytes:
    """Return an Item's JSON."""
    return b'{"seq":%d,%b' % (seq, tail)


def arrival(seq: int, tail: bytes) -> bytes:
    """Return an arrival entry's JSON."""
    return b'{"seq":%d,"kind":"arrival","item":{"seq":%d,%b}' % (seq, seq, tail)


def change(row: Mapping[str, Any]) -> bytes:
    """Return a change entry's JSON from `seq`, `action`, `at` and either `seqs` or `up_to`."""
    target = {"up_to": row["up_to"]} if row["seqs"] is None else {"seqs": row["seqs"]}
    return dumps({"seq": row["seq"], "kind": "change", "action": row["action"], **target, "at": row["at"]})


def entry(row: Mapping[str, Any]) -> bytes:
    """Return one row of the log query as an entry's JSON."""
    if row["action"] is not None:
        return change(row)
    return arrival(row["seq"], item_tail(row, Priority.of_rank(row["priority"]), fresh=True))


def counts(unread: int, unseen: int) -> bytes:
    """Return a Counts object's JSON."""
    return b'{"unread":%d,"unseen":%d}' % (unread, unseen)


def inbox_frame(first: int, last: int, entries: Iterable[bytes], unread: int, unseen: int) -> bytes:
    """Return an `inbox` event's payload; it accounts for every number from `first` to `last`."""
    return b'{"from":%d,"to":%d,"entries":[%b],"counts":%b}' % (
        first,
        last,
        b",".join(entries),
        counts(unread, unseen),
    )


def event_packet(event: str, payload: bytes) -> bytes:
    """Return a whole Socket.IO EVENT packet of the namespace `/`, without the Engine.IO type in front."""
    return b'2["%b",%b]' % (event.encode(), payload)


class Page:
    """A stretch of one inbox's log: every number from `first` to `last`, with what is known of the whole inbox."""

    __slots__ = ("entries", "first", "head", "last", "reset", "unread", "unseen")

    def __init__(self, since: int, size: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Read the rows of `queries.inbox.LOG_PAGES` that answer one question; at least one row."""
        box = rows[0]
        self.head: int = box["head"]
        self.unread: int = box["unread"]
        self.unseen: int = box["unseen"]
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
            encoded = entry(row)
            length += len(encoded)
            if self.entries and length > MAX_PAGE_BYTES:
                self.last = row["seq"] - 1
                return
            self.entries.append(encoded)

    def as_frame(self) -> bytes:
        """Return the page as the payload of an `inbox` event."""
        return inbox_frame(self.first, self.last, self.entries, self.unread, self.unseen)

    def as_json(self) -> bytes:
        """Return the page as `GET /v1/inbox/log` and the `sync` event answer it."""
        return b'{"from":%d,"to":%d,"head":%d,"reset":%b,"entries":[%b],"counts":%b}' % (
            self.first,
            self.last,
            self.head,
            b"true" if self.reset else b"false",
            b",".join(self.entries),
            counts(self.unread, self.unseen),
        )


def pages(asked: Sequence[tuple[int, int]], rows: Sequence[Mapping[str, Any]]) -> list[Page]:
    """Sort the rows of `LOG_PAGES` to the questions `(since, size)` that they answer, in the questions' order."""
    answers: list[list[Mapping[str, Any]]] = [[] for _ in asked]
    for row in rows:
        answers[row["ord"]].append(row)
    return [Page(since, size, found) for (since, size), found in zip(asked, answers, strict=True)]
