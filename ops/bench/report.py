"""What the figures say: the table, the targets, and the exit status. Pure.

A target that is missed is said so and changes nothing else; the exit status is about promises, not about speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.bench.facts import OURS, medians, ratio
from ops.bench.figures import median_of
from ops.bench.scenarios import CRITICAL_IDLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.bench.facts import Facts, Measure
    from ops.bench.figures import Figures

PEER = "node"
_METRICS = {
    "end_to_end_per_s": "notifications per s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "cpu_us_per_notification": "CPU each, µs",
}
_PROMISES = ("lost", "duplicated", "out of order")
_NOT_MEASURED = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure: of ours alone, or of ours divided by the peer's."""

    scenario: str
    metric: str
    bound: float
    at_least: bool
    of_peer: bool = False

    def met(self, value: float) -> bool:
        """Say whether a value is on the right side of the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        side = "at least" if self.at_least else "at most"
        whose = " times Node's" if self.of_peer else ""
        return f"{self.scenario}: {_METRICS[self.metric]} {side} {self.bound:,g}{whose}"


TARGETS = (
    Target("single", "end_to_end_per_s", 1_600, at_least=True),
    Target("bulk", "end_to_end_per_s", 6_000, at_least=True),
    Target("steady", "p99_ms", 15, at_least=False),
    Target("single", "end_to_end_per_s", 1.5, at_least=True, of_peer=True),
    Target("bulk", "end_to_end_per_s", 3.5, at_least=True, of_peer=True),
    Target("steady", "p99_ms", 1.5, at_least=False, of_peer=True),
    Target("single", "cpu_us_per_notification", 0.7, at_least=False, of_peer=True),
    Target("bulk", "cpu_us_per_notification", 0.4, at_least=False, of_peer=True),
)


class Comparison:
    """The medians of all runs, by scenario and stack."""

    def __init__(self, measured: Iterable[Figures]) -> None:
        runs: dict[tuple[str, str], list[Figures]] = {}
        for figures in measured:
            runs.setdefault((figures.scenario, figures.label), []).append(figures)
        self._medians = {key: median_of(each) for key, each in runs.items()}
        self.scenarios = list(dict.fromkeys(scenario for scenario, _ in runs))

    def of(self, scenario: str, label: str) -> Figures | None:
        """Return a stack's median figures, where it ran."""
        return self._medians.get((scenario, label))

    def value(self, scenario: str, metric: str, label: str) -> float | None:
        """Return one figure, where there is one."""
        figures = self.of(scenario, label)
        return getattr(figures, metric) if figures else None

    def ratio(self, scenario: str, metric: str) -> float | None:
        """Return ours divided by the peer's, where both are known."""
        ours, peers = self.value(scenario, metric, OURS), self.value(scenario, metric, PEER)
        return ours / peers if ours is not None and peers else None

    def judge(self, target: Target) -> tuple[str, float | None]:
        """Return `met`, `missed` or `-`, and the value that was judged."""
        value = (
            self.ratio(target.scenario, target.metric)
            if target.of_peer
            else self.value(target.scenario, target.metric, OURS)
        )
        if value is None:
            return _NOT_MEASURED, None
        return ("met" if target.met(value) else "missed"), value


def exit_status(measured: Sequence[Figures], alone: Sequence[Facts] = ()) -> int:
    """Return 1 where Bellhop lost, doubled or disordered anything, or did not work in another way; else 0."""
    compared = any(figures.faults() for figures in measured if figures.label == OURS)
    return int(compared or any(facts.found() for facts in alone if facts.label == OURS))


def table(measured: Sequence[Figures], alone: Sequence[Facts] = (), *, scale: float = 1.0) -> str:
    """Return everything a person wants to see, as text."""
    comparison, beside = Comparison(measured), _beside_peer(alone)
    lines = []
    if measured:
        lines += ["", f"{'':<42}{OURS:>12}{PEER:>12}{'ratio':>9}"]
    for scenario in comparison.scenarios:
        for metric, name in _METRICS.items():
            ours, peers = (_number(comparison.value(scenario, metric, label)) for label in (OURS, PEER))
            lines.append(
                f"{scenario:<21}{name:<21}{ours:>12}{peers:>12}{_times(comparison.ratio(scenario, metric)):>9}"
            )
        lines += _about_backlog(comparison, scenario)
    lines += [line for ours, peers in beside for line in _about_facts(ours, peers)]
    lines += ["", "Targets" if scale == 1 else f"Targets (they are for full counts; these runs had {scale:g} of them)"]
    for target in TARGETS if measured else ():
        verdict, value = comparison.judge(target)
        lines.append(f"  {verdict:<7} {target}" + (f" ({_number(value)})" if value is not None else ""))
    lines += [line for ours, peers in beside for line in _targets_of(ours, peers)]
    return "\n".join([*lines, *_about_faults(measured, alone)]) + "\n"


def _beside_peer(alone: Sequence[Facts]) -> list[tuple[Facts, Facts | None]]:
    """Return the medians of ours, each with the peer's where it was put to the same."""
    found = {(facts.scenario, facts.label): facts for facts in medians(alone)}
    return [(facts, found.get((scenario, PEER))) for (scenario, label), facts in found.items() if label == OURS]


def _about_facts(ours: Facts, peers: Facts | None) -> list[str]:
    lines = ["", ours.scenario if peers is None else f"{ours.scenario:<54}{OURS:>12}{PEER:>12}{'ratio':>9}"]
    for measure in ours.measures:
        line = f"  {measure.name:<52}{_number(ours.values.get(measure.key)):>12}"
        if peers is not None:
            line += f"{_number(peers.values.get(measure.key)):>12}{_times(_of_peer(measure, ours, peers)):>9}"
        lines.append(line)
    return lines


def _targets_of(ours: Facts, peers: Facts | None) -> list[str]:
    lines = []
    for measure in ours.measures:
        if measure.bound is not None:
            value = ours.values.get(measure.key)
            verdict = _NOT_MEASURED if value is None else "met" if measure.met(value) else "missed"
            lines.append(f"  {verdict:<7} {ours.scenario}: {measure.bounded(measure.bound)} ({_number(value)})")
        if measure.of_peer is not None:
            times = _of_peer(measure, ours, peers)
            verdict = _NOT_MEASURED if times is None else "met" if measure.met_beside_peer(times) else "missed"
            bounded = f"{measure.bounded(measure.of_peer)} times Node's"
            lines.append(f"  {verdict:<7} {ours.scenario}: {bounded} ({_number(times)})")
    return lines


def _of_peer(measure: Measure, ours: Facts, peers: Facts | None) -> float | None:
    return ratio(ours.values.get(measure.key), peers.values.get(measure.key)) if peers else None


def _about_backlog(comparison: Comparison, scenario: str) -> list[str]:
    lines = []
    for label in (OURS, PEER):
        figures = comparison.of(scenario, label)
        if figures and (backlog := figures.backlog):
            idle = comparison.value(CRITICAL_IDLE.name, "p99_ms", label)
            times = f", p99 {_times(figures.p99_ms / idle)} the idle one" if idle and figures.p99_ms else ""
            lines.append(
                f"  {label}: {figures.n:,.0f} critical ones sent while {backlog.waiting_at_start:,.0f} of "
                f"{backlog.n:,.0f} low ones waited{times}; {backlog.arrived_meanwhile:,.0f} low ones arrived meanwhile"
            )
    return lines


def _about_faults(measured: Sequence[Figures], alone: Sequence[Facts]) -> list[str]:
    ours = [figures.faults() for figures in measured if figures.label == OURS]
    ours += [facts.found() for facts in alone if facts.label == OURS]
    kept = ours and not any(promise in faults for faults in ours for promise in _PROMISES)
    verdict = "met" if kept else "missed" if ours else _NOT_MEASURED
    lines = [f"  {verdict:<7} nothing lost, duplicated or out of order"]
    found = [(figures.label, figures.scenario, figures.run, figures.faults()) for figures in measured]
    found += [(facts.label, facts.scenario, facts.run, facts.found()) for facts in alone]
    for label, scenario, run, faults in found:
        if faults:
            counts = ", ".join(f"{count:,} {name}" for name, count in faults.items())
            lines.append(f"  {label}, {scenario}, run {run}: {counts}")
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return _NOT_MEASURED
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"  # noqa: PLR2004  # as precise as is worth reading


def _times(ratio: float | None) -> str:
    return _NOT_MEASURED if ratio is None else f"{ratio:.2f}x"
