"""What a notification of `bulk` costs on one stack against another: base and grown runs alternate.

Both stacks are up, and so whatever else slows the machine down hits both. The ratio of the medians is what counts.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.bench.facts import Facts, Measure, ratio
from ops.bench.load import measure
from ops.bench.scenarios import BULK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.figures import Figures
    from ops.bench.lab import Lab
    from ops.bench.scenarios import Scenario

_PAIRS = 3  # of runs, in one measurement
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Side:
    """What `bulk` is put to: a stack, and users whose inboxes exist."""

    endpoint: Endpoint
    users: int
    prefix: str
    about: dict[str, Any]
    scenario: Scenario = BULK


def measures(most: float | None = None, least_throughput: float | None = None) -> tuple[Measure, ...]:
    """Return what two sides are compared in.

    The bounds are on how many times the base's CPU the grown one may take, and on its share of the base's throughput.
    """
    return (
        Measure("cpu_ratio", "CPU each, grown against base, times", most),
        Measure("base_cpu_us", "CPU each, base, µs"),
        Measure("grown_cpu_us", "CPU each, grown, µs"),
        Measure("throughput_ratio", "notifications per s, grown against base, times", least_throughput, at_least=True),
        Measure("base_per_s", "notifications per s, base"),
        Measure("grown_per_s", "notifications per s, grown"),
    )


def compare(
    lab: Lab,
    scenario: str,
    base: Side,
    grown: Side,
    most: float | None = None,
    *,
    least_throughput: float | None = None,
) -> Iterator[Facts]:
    """Measure both sides in turns. Yields the facts of each run."""
    for side in (base, grown):
        _bulk(lab, side, f"{scenario}: warming up")  # every inbox exists then
    for number in lab.runs:
        runs: dict[str, list[Figures]] = {"base": [], "grown": []}
        for pair in range(lab.scaled(_PAIRS)):
            order = (("base", base), ("grown", grown))
            for name, side in order if pair % 2 == 0 else reversed(order):
                runs[name].append(_bulk(lab, side, f"{scenario}, {name}"))
        yield _facts(scenario, number, base, grown, runs, measures(most, least_throughput))


def _bulk(lab: Lab, side: Side, what: str) -> Figures:
    work = measure(side.endpoint, side.scenario.scaled(lab.scale), users=side.users, prefix=side.prefix)
    return lab.run(work, limit_s=_LIMIT_S, what=what)


def _facts(
    scenario: str,
    number: int,
    base: Side,
    grown: Side,
    runs: dict[str, list[Figures]],
    measured: tuple[Measure, ...],
) -> Facts:
    cpu_us = {name: statistics.median(each.cpu_us_per_notification for each in some) for name, some in runs.items()}
    per_s = {name: statistics.median(each.end_to_end_per_s for each in some) for name, some in runs.items()}
    faults: Counter[str] = Counter()
    for figures in (each for some in runs.values() for each in some):
        faults.update(figures.faults())
    return Facts(
        scenario=scenario,
        run=number,
        measures=measured,
        values={
            "cpu_ratio": ratio(cpu_us["grown"], cpu_us["base"]),
            "base_cpu_us": cpu_us["base"],
            "grown_cpu_us": cpu_us["grown"],
            "throughput_ratio": ratio(per_s["grown"], per_s["base"]),
            "base_per_s": per_s["base"],
            "grown_per_s": per_s["grown"],
        },
        about={
            "base": base.about,
            "grown": grown.about,
            "n": runs["base"][0].n,
            "runs": {name: [_in_short(each) for each in some] for name, some in runs.items()},
        },
        faults=faults,
    )


def _in_short(figures: Figures) -> dict[str, Any]:
    return {
        "cpu_us": figures.cpu_us_per_notification,
        "per_s": figures.end_to_end_per_s,
        "cpu_us_by_process": figures.cpu_us_by_process,
        "client_cpu_us": figures.client_cpu_us_per_notification,
    }
