"""A client's local copy of an inbox, kept by applying log entries as the contract says. A fresh read must equal it.

Invariant: every number up to `seq` is accounted for. What does not follow raises, and changes nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ops.prove.alarm import ViolationError


class Replica:
    """Items by number, and the last number."""

    def __init__(self) -> None:
        self.items: dict[int, dict[str, Any]] = {}
        self.seq = 0

    def apply(self, frame: dict[str, Any]) -> None:
        """Apply an `inbox` frame or a page of the log. Raises `ViolationError` where it does not follow."""
        first, last, entries = frame["from"], frame["to"], frame["entries"]
        if first != self.seq + 1:
            what = "a gap" if first > self.seq + 1 else "again what was sent before"
            msg = f"{what}: a frame {first} to {last} after {self.seq}"
            raise ViolationError(msg)
        bounds = [first - 1, *(entry["seq"] for entry in entries), last + 1]
        if not all(left < right for left, right in pairwise(bounds)):
            msg = f"a frame {first} to {last} holds the numbers {bounds[1:-1]}"
            raise ViolationError(msg)
        for entry in entries:
            if entry["kind"] == "arrival":
                self.items[entry["seq"]] = dict(entry["item"])
            else:
                self._change(entry)
        self.seq = last

    def _change(self, entry: dict[str, Any]) -> None:
        touched = entry["seqs"] if "seqs" in entry else [seq for seq in self.items if seq <= entry["up_to"]]
        for seq in touched:
            item = self.items.get(seq)
            if item is None:
                continue
            match entry["action"]:
                case "seen":
                    item["seen_at"] = item["seen_at"] or entry["at"]
                case "read":
                    item["read_at"] = item["read_at"] or entry["at"]
                    item["seen_at"] = item["seen_at"] or entry["at"]
                case "unread":
                    item["read_at"] = None
                case "archive":
                    item["archived_at"] = item["archived_at"] or entry["at"]
                case "unarchive":
                    item["archived_at"] = None
                case "delete":
                    del self.items[seq]
                case unknown:
                    msg = f"entry {entry['seq']} has an action that the contract does not know: {unknown}"
                    raise ViolationError(msg)

    def newest_first(self) -> list[dict[str, Any]]:
        """Return the items as `GET /v1/inbox?status=all` lists them."""
        return [self.items[seq] for seq in sorted(self.items, reverse=True)]
