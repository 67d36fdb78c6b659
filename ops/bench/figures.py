"""The figures of one measured run, as its JSON line shows them, and the median of several runs."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Backlog:
    """What became of the low notifications that waited while the critical ones were sent."""

    n: int
    ingest_per_s: float
    end_to_end_per_s: float
    waiting_at_start: int
    arrived_meanwhile: int
    waiting_at_end: int
    lost: int
    refused: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. `order_violations` is None where the stack numbers nothing. CPU is in microseconds per notification.

    Counts of things that went wrong add up over runs; everything else is comparable between runs and has a median.
    """

    scenario: str
    label: str
    run: int
    users: int
    n: int
    per_request: int
    in_flight: int
    rate: float | None
    priority: str
    connects_per_s: float
    ingest_per_s: float
    end_to_end_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    lost: int
    refused: int
    duplicates: int
    order_violations: int | None
    dropped_sockets: int
    statuses: dict[str, int]
    restarted: list[str]
    cpu_us_per_notification: float
    cpu_us_by_process: dict[str, float]
    client_cpu_us_per_notification: float
    backlog: Backlog | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as the JSON line holds it; without `backlog` where there was none."""
        whole = asdict(self)
        if self.backlog is None:
            del whole["backlog"]
        return whole

    def faults(self) -> dict[str, int]:
        """Return everything that must not happen and did."""
        backlog = self.backlog
        found = {
            "lost": self.lost + (backlog.lost if backlog else 0),
            "refused": self.refused + (backlog.refused if backlog else 0),
            "duplicated": self.duplicates + (backlog.duplicates if backlog else 0),
            "out of order": self.order_violations or 0,
            "sockets dropped": self.dropped_sockets,
            "processes restarted": len(self.restarted),
        }
        return {name: count for name, count in found.items() if count}


_ADD_UP = {"lost", "refused", "duplicates", "order_violations", "dropped_sockets"}
_FROM_FIRST = {"scenario", "label", "run", "users", "per_request", "in_flight", "rate", "priority"}


def median_of(runs: Sequence[Figures]) -> Figures:
    """Return one run's worth of figures: the median of each, and the sum of what went wrong."""
    first = runs[0]
    names = {field.name for field in fields(Figures)} - _FROM_FIRST
    changes: dict[str, Any] = {}
    for name in names - {"statuses", "restarted", "cpu_us_by_process", "backlog"}:
        values = [value for run in runs if (value := getattr(run, name)) is not None]
        changes[name] = (sum(values) if name in _ADD_UP else statistics.median(values)) if values else None
    changes["statuses"] = dict(sum((Counter(run.statuses) for run in runs), Counter()))
    changes["restarted"] = [name for run in runs for name in run.restarted]
    changes["cpu_us_by_process"] = {
        name: statistics.median(run.cpu_us_by_process.get(name, 0.0) for run in runs)
        for name in first.cpu_us_by_process
    }
    backlogs = [run.backlog for run in runs if run.backlog]
    changes["backlog"] = _median_backlog(backlogs) if backlogs else None
    return replace(first, **changes)


def _median_backlog(backlogs: Sequence[Backlog]) -> Backlog:
    return Backlog(
        **{
            field.name: (sum if field.name in _ADD_UP else statistics.median)(
                getattr(backlog, field.name) for backlog in backlogs
            )
            for field in fields(Backlog)
        }
    )
