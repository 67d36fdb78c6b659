"""An inbox as REST gives it anew, and everything that must say the same. Pure.

Invariant: the list of all items is the measure; copies, other lists and counts are held against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.states import ListStatus
from ops.prove.alarm import ViolationError, some

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.prove.replica import Replica


class Fresh:
    """An inbox as REST lists it, put together from all its pages."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.seq = 0

    def add(self, page: Mapping[str, Any]) -> int | None:
        """Take a page; return where the next one begins."""
        self.items += page["items"]
        self.counts = dict(page["counts"])
        self.seq = page["seq"]
        following: int | None = page["next_before"]
        return following


def copy_equals(user: str, copy: Replica, counts: Mapping[str, int], fresh: Fresh) -> None:
    """Check that a device's copy, its number and its counts are what a fresh read gives."""
    if copy.seq != fresh.seq:
        msg = f"a device of {user} holds {copy.seq}; its inbox is at {fresh.seq}"
        raise ViolationError(msg)
    held = copy.newest_first()
    if held != fresh.items:
        mine, theirs = ({item["seq"]: item for item in items} for items in (held, fresh.items))
        differing = sorted(seq for seq in mine.keys() | theirs.keys() if mine.get(seq) != theirs.get(seq))
        first = differing[0] if differing else None
        msg = (
            f"a device of {user} that holds {copy.seq} has a copy that differs from a fresh read in "
            f"{some(differing)}: {_difference(mine.get(first), theirs.get(first)) if first else 'the order'}"
        )
        raise ViolationError(msg)
    if dict(counts) != fresh.counts:
        msg = f"a device of {user} was told last of {dict(counts)}; a fresh read counts {fresh.counts}"
        raise ViolationError(msg)


def list_is_right(user: str, status: ListStatus, fresh: Fresh, page: Mapping[str, Any], size: int) -> None:
    """Check that the first page, of `size`, of another list has what the whole inbox says that it has."""
    belongs = _BELONGS[status]
    expected = [item["seq"] for item in fresh.items if belongs(item)][:size]
    found = [item["seq"] for item in page["items"]]
    if found != expected:
        msg = f"the {status} list of {user} begins with {some(found)}; the whole inbox says {some(expected)}"
        raise ViolationError(msg)


def counts_are_right(user: str, fresh: Fresh, counts: Mapping[str, Any]) -> None:
    """Check that the counts by domain are what counting the whole inbox gives."""
    domains: dict[str, dict[str, int]] = {}
    for item in fresh.items:
        for name, belongs in (("unread", _is_unread), ("unseen", _is_unseen)):
            if belongs(item):
                domains.setdefault(item["domain"], {"unread": 0, "unseen": 0})[name] += 1
    expected = {**fresh.counts, "domains": domains}
    if counts != expected:
        msg = f"the counts of {user} are {dict(counts)}; the whole inbox says {expected}"
        raise ViolationError(msg)


def _is_active(item: Mapping[str, Any]) -> bool:
    return item["archived_at"] is None


def _is_unread(item: Mapping[str, Any]) -> bool:
    return _is_active(item) and item["read_at"] is None


def _is_unseen(item: Mapping[str, Any]) -> bool:
    return _is_active(item) and item["seen_at"] is None


_BELONGS: dict[ListStatus, Callable[[Mapping[str, Any]], bool]] = {
    ListStatus.ACTIVE: _is_active,
    ListStatus.UNREAD: _is_unread,
    ListStatus.UNSEEN: _is_unseen,
    ListStatus.ARCHIVED: lambda item: not _is_active(item),
    ListStatus.ALL: lambda _: True,
}


def _difference(mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> str:
    if mine is None or theirs is None:
        return "only the fresh read has it" if mine is None else "only the copy has it"
    return ", ".join(f"{name} {mine[name]!r} / {theirs.get(name)!r}" for name in mine if mine[name] != theirs.get(name))
