"""The figures of one run of a scenario that has stacks of its own, and what is wanted of them. Pure.

Each scenario names its measures, with a bound where something is promised, on ours or on how many times the peer's it
is. A bound that is missed is said and changes nothing else; faults are what must not happen, whatever the scenario.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OURS = "bellhop"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: its key in the JSON line, its name in the table, and the bounds on it, if there are any.

    `of_peer` bounds ours divided by the peer's, on the same side.
    """

    key: str
    name: str
    bound: float | None = None
    at_least: bool = False
    of_peer: float | None = None

    def met(self, value: float) -> bool:
        """Say whether a value is on the right side of the bound."""
        return self._holds(value, self.bound)

    def met_beside_peer(self, times: float) -> bool:
        """Say whether so many times the peer's is on the right side of the bound on that."""
        return self._holds(times, self.of_peer)

    def _holds(self, value: float, bound: float | None) -> bool:
        return bound is None or (value >= bound if self.at_least else value <= bound)

    def bounded(self, bound: float) -> str:
        """Return the name with one of its bounds."""
        return f"{self.name} {'at least' if self.at_least else 'at most'} {bound:,g}"


@dataclass(frozen=True, slots=True)
class Facts:
    """One run. `values` are by the keys of `measures`; `about` says what was done; `faults` counts what went wrong."""

    scenario: str
    run: int
    measures: tuple[Measure, ...]
    values: Mapping[str, float | None]
    about: Mapping[str, Any]
    faults: Mapping[str, int]
    label: str = OURS

    def as_json(self) -> dict[str, Any]:
        """Return it as the JSON line holds it."""
        return {
            "scenario": self.scenario,
            "label": self.label,
            "run": self.run,
            **{measure.key: rounded(self.values.get(measure.key)) for measure in self.measures},
            "about": dict(self.about),
            "faults": self.found(),
        }

    def found(self) -> dict[str, int]:
        """Return what went wrong, without what did not."""
        return {name: count for name, count in self.faults.items() if count}


def medians(runs: Iterable[Facts]) -> list[Facts]:
    """Return one run's worth per scenario and stack: the median of each value, and the sum of what went wrong."""
    by_scenario: dict[tuple[str, str], list[Facts]] = {}
    for facts in runs:
        by_scenario.setdefault((facts.scenario, facts.label), []).append(facts)
    return [_median(each) for each in by_scenario.values()]


def _median(runs: Sequence[Facts]) -> Facts:
    values: dict[str, float | None] = {}
    for measure in runs[0].measures:
        known = [value for run in runs if (value := run.values.get(measure.key)) is not None]
        values[measure.key] = statistics.median(known) if known else None
    names = dict.fromkeys(name for run in runs for name in run.faults)
    return replace(
        runs[0], values=values, faults={name: sum(run.faults.get(name, 0) for run in runs) for name in names}
    )


def ratio(value: float | None, of: float | None) -> float | None:
    """Return one value divided by another, where both are known."""
    return value / of if value is not None and of else None


def rounded(value: float | None) -> float | None:
    """Return a value with as many digits as mean something."""
    if value is None:
        return None
    return round(value, 1 if abs(value) >= 1_000 else 3)  # noqa: PLR2004  # a thousandth is more than any clock is worth


def in_ms(seconds: float | None) -> float | None:
    """Return milliseconds, where there is a time."""
    return None if seconds is None else seconds * 1000
