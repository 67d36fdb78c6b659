"""The JSON that clients receive, assembled as bytes from rows.

Content is encoded once per notification; a recipient's copy differs only in its number, so it is concatenation.
`models.contracts` says what these bytes look like, and the tests hold one against the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_UTC = orjson.OPT_UTC_Z


def dumps(value: object) -> bytes:
    """Encode `value` as JSON; times come out in UTC with a Z."""
    return orjson.dumps(value, option=_UTC)


def _fragment(text: str | None) -> object:
    return None if text is None else orjson.Fragment(text)


def item_tail(row: Mapping[str, Any], priority: Priority, *, fresh: bool, silent: bool, collapsed: int) -> bytes:
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
            "collapsed": collapsed,
            "silent": silent,
            "created_at": row["created_at"],
            "seen_at": None if fresh else row["seen_at"],
            "read_at": None if fresh else row["read_at"],
            "archived_at": None if fresh else row["archived_at"],
            "expires_at": row["expires_at"],
        }
    )[1:]


def delivered_tail(row: Mapping[str, Any], *, fresh: bool) -> bytes:
    """Return the same from a row that holds the delivery, too."""
    priority = Priority.of_rank(row["priority"])
    return item_tail(row, priority, fresh=fresh, silent=row["silent"], collapsed=row["collapsed"])


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
    return arrival(row["seq"], delivered_tail(row, fresh=True))


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


def room_entry(seq: int, event: str, data: str | bytes, at: datetime) -> bytes:
    """Return one room entry's JSON. `data` is JSON already."""
    return dumps({"seq": seq, "event": event, "data": orjson.Fragment(data), "at": at})


def room_frame(room: str, first: int, last: int, entries: bytes) -> bytes:
    """Return a `room` event's payload. `entries` are joined by commas already."""
    return b'{"room":"%b","from":%d,"to":%d,"entries":[%b]}' % (room.encode(), first, last, entries)
