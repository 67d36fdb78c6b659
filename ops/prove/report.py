"""What a seed has shown: its JSON line, and the table over all seeds. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = {
    "seed": "seed",
    "faults": "faults",
    "accepted": "accepted",
    "deliveries": "deliveries",
    "broadcasts": "broadcasts",
    "expired": "expired",
    "cancelled": "cancelled",
    "digests": "digests",
    "gathered": "in digests",
    "events": "room events",
    "actions": "actions",
    "refreshes": "refreshes",
    "retries": "retries",
    "reconnects": "reconnects",
    "converged_s": "converged, s",
}
_WIDTH = 14


@dataclass(slots=True)
class Figures:
    """One seed. `converged_s`: from when all was mended and answered until all agreed, the longest of its rounds.

    `repairs` and `drops` are what socket nodes did to connections, by reason, as far as they lived to be scraped.
    `memory_mb` is the most that a process has grown which lived through everything. `restarts` counts processes that
    had to be started again, with or without a fault that killed them; `complaints` are log lines that nobody foresaw.
    `gathered` counts entries of `digests`, `translated` what was told in a language that its user asked for, and
    `misfits` what did not fit a schema and was refused.
    """

    seed: int
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    accepted: int = 0
    dispatched: int = 0
    deliveries: int = 0
    broadcasts: int = 0
    expired: int = 0
    cancelled: int = 0
    digests: int = 0
    gathered: int = 0
    translated: int = 0
    misfits: int = 0
    audit_faults: int = 0
    actions: int = 0
    unanswered_actions: int = 0
    events: int = 0
    frames: int = 0
    presence_changes: int = 0
    refreshes: int = 0
    reconnects: int = 0
    retries: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    repairs: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    converged_s: float = 0.0
    memory_mb: float = 0.0
    complaints: dict[str, int] = field(default_factory=dict)
    violation: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the JSON line holds."""
        return asdict(self)


def exit_status(seeds: Sequence[Figures]) -> int:
    """Return 1 where a promise was broken; else 0."""
    return int(any(figures.violation for figures in seeds))


def table(seeds: Sequence[Figures]) -> str:
    """Return everything a person wants to see, as text."""
    lines = ["", "".join(f"{title:>{_WIDTH}}" for title in _COLUMNS.values())]
    for figures in seeds:
        row = {**figures.as_json(), "faults": sum(figures.faults.values())}
        lines.append("".join(f"{_cell(row[name]):>{_WIDTH}}" for name in _COLUMNS))
    totals: dict[str, int] = {}
    for figures in seeds:
        for kind, count in figures.faults.items():
            totals[kind] = totals.get(kind, 0) + count
    lines += ["", "faults: " + (", ".join(f"{kind} {count}" for kind, count in sorted(totals.items())) or "none")]
    if seeds:
        longest = max(figures.converged_s for figures in seeds)
        lines.append(f"longest time to converge: {longest:.1f} s")
        lines.append(f"most memory that a process has grown by: {max(figures.memory_mb for figures in seeds):.0f} MB")
    for figures in seeds:
        for line, count in figures.complaints.items():
            lines.append(f"seed {figures.seed}, {count} times in the log: {line}")
    broken = [figures for figures in seeds if figures.violation]
    lines.append("")
    lines += [f"VIOLATED in seed {figures.seed}: {figures.violation}" for figures in broken]
    if not broken:
        lines.append("every promise was kept" if seeds else "nothing was looked at")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
