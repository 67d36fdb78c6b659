"""What is compared: how many notifications, in which portions, at which pace. Both stacks get the same.

Also the names of everything that can be measured, for the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BACKLOG_PER_REQUEST = 500  # larger than what `bulk` measures: it is to be there soon


@dataclass(frozen=True, slots=True)
class Scenario:
    """One stream of notifications. Without a rate, each of `in_flight` senders posts again as soon as it is answered.

    With a rate (notifications per second), requests leave on schedule whatever the stack does: an open loop, in which
    a slow stack cannot slow its own measurement down.
    """

    name: str
    count: int
    per_request: int = 1
    in_flight: int = 32
    rate: float | None = None
    priority: str = "normal"
    text: bool = True  # each brings its title and body; else the type's templates do
    backlog: int = 0  # so many low ones are accepted first, and this stream is sent while they wait

    def scaled(self, scale: float) -> Scenario:
        """Return the same with a share of its notifications."""
        return replace(self, count=max(1, round(self.count * scale)), backlog=round(self.backlog * scale))


SINGLE = Scenario("single", 10_000)
BULK = Scenario("bulk", 20_000, per_request=100)
STEADY = Scenario("steady", 2_000, rate=200)
BRISK = Scenario("brisk", 10_000, rate=1_000)
CRITICAL_IDLE = Scenario("critical-idle", 1_000, rate=100, priority="critical")
CRITICAL_BEHIND_BULK = replace(CRITICAL_IDLE, name="critical-behind-bulk", backlog=100_000)


def backlog_of(scenario: Scenario) -> Scenario:
    """Return the stream of low notifications that is to wait beside a scenario."""
    return Scenario("backlog", scenario.backlog, per_request=_BACKLOG_PER_REQUEST, in_flight=8, priority="low")


WARM_UP = (Scenario("warm-up", 4_000, per_request=100), Scenario("warm-up", 2_000))

# The name that a user gives, and what it measures; the last one needs its own idle figures beside it.
CHOICES: dict[str, tuple[Scenario, ...]] = {
    "single": (SINGLE,),
    "bulk": (BULK,),
    "steady": (STEADY,),
    "brisk": (BRISK,),
    "critical-behind-bulk": (CRITICAL_IDLE, CRITICAL_BEHIND_BULK),
}
# What gets stacks of its own; `ops.bench.alone` knows where each is measured. Of `rooms` the Node peer does most, too;
# the others are put to Bellhop alone.
ALONE = ("critical-under-load", "fan-out", "inbox-depth", "connections", "storm", "growth", "nodes", "rooms", "wording")
EVERYTHING = "all"
NAMES = (*CHOICES, *ALONE, EVERYTHING)


def chosen(names: Sequence[str], *, backlog: int, scale: float) -> list[Scenario]:
    """Return the comparison's scenarios of these names (all of them, for none), with that backlog, scaled."""
    wanted = [name for name in CHOICES if name in names or EVERYTHING in names or not names]
    scenarios = [scenario for name in wanted for scenario in CHOICES[name]]
    with_backlog = [replace(each, backlog=backlog) if each.backlog else each for each in scenarios]
    return [scenario.scaled(scale) for scenario in with_backlog]


def chosen_alone(names: Sequence[str]) -> list[str]:
    """Return which of these names, or of all, stand for what gets stacks of its own."""
    return [name for name in ALONE if name in names or EVERYTHING in names]
