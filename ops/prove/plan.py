"""What breaks, and when: a schedule made of a seed and nothing else. Pure.

Invariant: the same seed, time and kinds give the same plan; every fault begins and ends within the time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Kind(StrEnum):
    """Everything that can be broken."""

    KILL_API = "kill-api"
    KILL_WORKER_CHILD = "kill-worker-child"
    KILL_WORKER = "kill-worker"
    KILL_WORKER_CRITICAL = "kill-worker-critical"
    KILL_BEAT = "kill-beat"
    KILL_SOCKET = "kill-socket"
    DRAIN_SOCKET = "drain-socket"
    KILL_REDIS = "kill-redis"
    KILL_POSTGRES = "kill-postgres"
    FLUSHALL = "flushall"
    FREEZE_WORKER = "freeze-worker"
    FREEZE_SOCKET = "freeze-socket"
    DROP_CLIENTS = "drop-clients"
    DEAF_CLIENTS = "deaf-clients"
    CUT_CLIENTS = "cut-clients"
    REFUSE_POSTGRES = "refuse-postgres"
    FILL_REDIS = "fill-redis"


# How long each lasts, in seconds; what is missing is over at once. The longer freezes outlast what the stack waits for:
# ten seconds for a session that sits in a transaction, fifteen until a node that says nothing counts as gone.
_LASTS_S: dict[Kind, tuple[float, float]] = {
    Kind.FREEZE_WORKER: (2.0, 14.0),
    Kind.FREEZE_SOCKET: (2.0, 18.0),
    Kind.DEAF_CLIENTS: (5.0, 30.0),
    Kind.CUT_CLIENTS: (3.0, 12.0),
    Kind.REFUSE_POSTGRES: (1.0, 6.0),
    Kind.FILL_REDIS: (1.0, 6.0),
}
_CALM_S = 2.0  # before the first fault: something must have been going well
_PAUSE_S = (1.0, 4.5)
_TOGETHER = 0.25  # how often a second fault comes with the first
_TOGETHER_WITHIN_S = 0.3
_LAST_S = 0.5  # a fault begins at least this long before the end


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `draw`, in [0, 1), chooses among its possible victims."""

    kind: Kind
    at_s: float
    lasts_s: float
    draw: float

    @property
    def ends_s(self) -> float:
        """When it is to be mended."""
        return self.at_s + self.lasts_s


def plan(seed: int, seconds: float, kinds: Sequence[Kind]) -> tuple[Fault, ...]:
    """Return the faults of a seed, in order of their beginnings. `kinds` are some of `Kind`."""
    generator = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    upcoming = _in_turns(kinds, generator)
    faults: list[Fault] = []
    at_s = min(_CALM_S, seconds / 4)
    while at_s <= seconds - _LAST_S:
        faults.append(_fault(next(upcoming), at_s, seconds, generator))
        if generator.random() < _TOGETHER:
            beside_s = min(at_s + generator.uniform(0.0, _TOGETHER_WITHIN_S), seconds - _LAST_S)
            faults.append(_fault(next(upcoming), beside_s, seconds, generator))
        at_s += generator.uniform(*_PAUSE_S)
    return tuple(faults)


def _in_turns(kinds: Sequence[Kind], generator: random.Random) -> Iterator[Kind]:
    """Yield kinds for ever, each as often as every other, in an order that changes."""
    while True:
        yield from generator.sample(list(kinds), len(kinds))


def _fault(kind: Kind, at_s: float, seconds: float, generator: random.Random) -> Fault:
    lasts_s = generator.uniform(*_LASTS_S[kind]) if kind in _LASTS_S else 0.0
    return Fault(kind, round(at_s, 3), round(min(lasts_s, seconds - at_s), 3), generator.random())
