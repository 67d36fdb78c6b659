"""A client's local copy of an inbox, kept by applying log entries as the contract says. A fresh read must equal it."""

from __future__ import annotations

from typing import Any


class Replica:
    """Items by number. `apply` raises where a frame does not follow the last one."""

    def __init__(self) -> None:
        self.items: dict[int, dict[str, Any]] = {}
        self.seq = 0

    def apply(self, frame: dict[str, Any]) -> None:
        assert frame["from"] == self.seq + 1, f"a gap: {frame['from']} after {self.seq}"
        last = self.seq
        for entry in frame["entries"]:
            assert last < entry["seq"] <= frame["to"]
            last = entry["seq"]
            if entry["kind"] == "arrival":
                self.items[entry["seq"]] = dict(entry["item"])
            else:
                self._change(entry)
        self.seq = frame["to"]

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

    def newest_first(self) -> list[dict[str, Any]]:
        return [self.items[seq] for seq in sorted(self.items, reverse=True)]
