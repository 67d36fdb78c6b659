"""Reads a plan as `EXPLAIN (FORMAT JSON)` gives it: what was read, thrown away, compared in vain, read whole. Pure.

A table is read whole by a sequential scan, and just as well by an index scan without a condition: that is what Postgres
turns to where sequential scans are switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.plans.fill import BIG_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

Node = dict[str, Any]

_INDEX_SCANS = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
_WHOLE_SCANS = ("Seq Scan", "Sample Scan")
_FEW = 1_000  # rows thrown away, or pages touched: below that, nobody minds
_TIMES = 10
_PER_WRITE = 40  # pages for a row that is written, with all its indexes
_CONDITIONS = ("Index Cond", "Recheck Cond", "Filter", "Join Filter", "Hash Cond", "Merge Cond")


@dataclass(frozen=True, slots=True)
class Plan:
    """One statement's plan, carried out if it was ANALYZEd. Times are in milliseconds."""

    root: Node
    execution_ms: float

    @classmethod
    def parse(cls, explained: list[dict[str, Any]]) -> Plan:
        """Take what EXPLAIN returned."""
        return cls(explained[0]["Plan"], float(explained[0].get("Execution Time", 0.0)))

    def nodes(self) -> Iterator[tuple[int, Node]]:
        """Yield every node with its depth, from the root on."""
        waiting = [(0, self.root)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting += [(depth + 1, child) for child in reversed(node.get("Plans", []))]

    @property
    def rows(self) -> int:
        """How many rows came out."""
        return _total(self.root, "Actual Rows")

    @property
    def read(self) -> int:
        """How many rows were read from big tables, kept or not."""
        return sum(_total(node, "Actual Rows") + _removed(node) for node in self._scans())

    @property
    def thrown_away(self) -> int:
        """How many rows were read from big tables only to be dropped by a filter."""
        return sum(_removed(node) for node in self._scans())

    @property
    def pages(self) -> int:
        """How many pages of 8 kB were touched, in memory or not; the same one may count often.

        A part that writes, and whose result nothing reads, is carried out after the rest, and counts beside it.
        """
        nodes = [node for _, node in self.nodes()]
        wanted = {node["CTE Name"] for node in nodes if "CTE Name" in node}
        after = [node for node in nodes if node.get("Subplan Name", "").startswith("CTE ")]
        return sum(map(_pages, [self.root, *(node for node in after if node["Subplan Name"][4:] not in wanted)]))

    def read_whole(self) -> list[str]:
        """Name each scan that reads the whole of a big table."""
        return [_scan_title(node) for node in self._scans() if _reads_whole(node)]

    def sorted_despite_all(self) -> list[str]:
        """Name what is sorted: fine for a few rows."""
        return [", ".join(node["Sort Key"]) for _, node in self.nodes() if node["Node Type"] == "Sort"]

    def wasteful(self) -> str:
        """Say in what respect the statement reads far more than it needs; empty where it does not."""
        for _, node in self.nodes():
            compared, matched = _total(node, "Rows Removed by Join Filter"), _total(node, "Actual Rows")
            if compared > _FEW and compared > _TIMES * matched:
                return f"compared {compared:,} pairs of rows to join {matched:,}"
        kept = self.read - self.thrown_away
        if self.thrown_away > _FEW and self.thrown_away > _TIMES * kept:
            return f"threw {self.thrown_away:,} of {self.read:,} rows away"
        if self.pages > _FEW and self.pages > _TIMES * self.read + _PER_WRITE * self._written():
            return f"touched {self.pages:,} pages for {self.read:,} rows"
        return ""

    def shape(self) -> tuple[tuple[object, ...], ...]:
        """Return what two runs of one plan have in common, and two plans do not."""
        return tuple(
            (depth, node["Node Type"], node.get("Relation Name"), node.get("Index Name"), "Index Cond" in node)
            for depth, node in self.nodes()
        )

    def lines(self) -> list[str]:
        """Return the plan as text, a line per node and one per condition."""
        lines = []
        for depth, node in self.nodes():
            indent = "  " * depth
            name = f"{node['Subplan Name']}: " if node.get("Subplan Name", "").startswith("CTE") else ""
            lines.append(f"{indent}{name}{_scan_title(node)}{_facts(node)}")
            lines += [f"{indent}    {kind}: {_short(node[kind])}" for kind in _CONDITIONS if kind in node]
        return lines

    def _scans(self) -> Iterator[Node]:
        for _, node in self.nodes():
            if node["Node Type"].endswith("Scan") and node.get("Relation Name") in BIG_TABLES:
                yield node

    def _written(self) -> int:
        return sum(
            _total(child, "Actual Rows")
            for _, node in self.nodes()
            if node["Node Type"] == "ModifyTable"
            for child in node.get("Plans", [])
        )


def _reads_whole(node: Node) -> bool:
    kind = node["Node Type"]
    return kind in _WHOLE_SCANS or (kind in _INDEX_SCANS and "Index Cond" not in node)


def _total(node: Node, what: str) -> int:
    return round(float(node.get(what, 0)) * float(node.get("Actual Loops", 1)))


def _pages(node: Node) -> int:
    return int(node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0))


def _removed(node: Node) -> int:
    return _total(node, "Rows Removed by Filter") + _total(node, "Rows Removed by Index Recheck")


def _scan_title(node: Node) -> str:
    kind = node["Node Type"]
    if kind == "ModifyTable":
        kind = node["Operation"]
    if node.get("Scan Direction") == "Backward":
        kind += " Backward"
    using = f" using {node['Index Name']}" if "Index Name" in node else ""
    on = f" on {node['Relation Name']}" if "Relation Name" in node else ""
    on = on or (f" on {node['CTE Name']}" if "CTE Name" in node else "")
    return f"{kind}{using}{on}"


def _facts(node: Node) -> str:
    if "Actual Rows" not in node:
        return ""
    loops = int(node["Actual Loops"])
    if not loops:
        return "  (never executed)"
    facts = [f"rows {_total(node, 'Actual Rows'):,}"]
    facts += [f"loops {loops:,}"] if loops > 1 else []
    facts += [f"thrown away {_removed(node):,}"] if _removed(node) else []
    facts += [f"pages {_pages(node):,}"] if _pages(node) else []
    return f"  ({', '.join(facts)})"


def _short(condition: str, most: int = 150) -> str:
    return condition if len(condition) <= most else condition[: most - 1] + "…"
