"""One stream of numbered notifications on its way through a stack: sent by its poster, arriving at a crowd's sockets.

What was accepted and did not arrive `_PATIENCE_S` after the last arrival is lost, as far as the figures are concerned.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ops.bench.posting import Poster
from ops.bench.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ops.bench.scenarios import Scenario
    from ops.bench.sockets import Crowd

_PATIENCE_S = 10.0
_POLL_S = 0.02


class Stream:
    """A scenario's notifications, under a name that no earlier run's leftovers can carry."""

    def __init__(self, scenario: Scenario) -> None:
        self.name = secrets.token_hex(4)
        self.scenario = scenario
        self.recorder = Recorder(scenario.count)
        self.statuses: dict[str, int] = {}
        self.started = self.posted = 0.0

    async def post(self, crowd: Crowd, go_on: Callable[[], bool] = lambda: True) -> None:
        """Post everything, or until `go_on` says no."""
        async with Poster(crowd, self.scenario, self.recorder, stream=self.name) as poster:
            self.started = time.perf_counter()
            await poster.post_all(go_on)
            self.posted = time.perf_counter()
        self.statuses = dict(poster.statuses)

    def written(self, at: float) -> None:
        """Note that all of it was put into the tables at a moment of `time.perf_counter`, without being posted."""
        self.recorder.sent(range(self.scenario.count), at)
        self.started = self.posted = at

    @property
    def ingest_per_s(self) -> float:
        """Accepted per second, from the first request to the last answer."""
        return round(self.recorder.sent_count / max(self.posted - self.started, 1e-9), 1)

    @property
    def end_to_end_per_s(self) -> float:
        """Arrived per second, from the first request to the last arrival."""
        return round(self.recorder.arrived_count / max(self.recorder.last_arrival - self.started, 1e-9), 1)


class Books(Protocol):
    """What is known of things on their way: how many there are, and when the last one arrived."""

    @property
    def waiting(self) -> int:
        """How many were sent, were not refused, and have not arrived."""

    @property
    def last_arrival(self) -> float:
        """A moment of `time.perf_counter`."""


async def until_all_arrived(streams: Sequence[Stream]) -> None:
    """Wait until nothing is on its way any more, or nothing has arrived for `_PATIENCE_S`."""
    await until_nothing_waits([stream.recorder for stream in streams])


async def until_nothing_waits(books: Sequence[Books]) -> None:
    """Wait until nothing is on its way any more, or nothing has arrived for `_PATIENCE_S`."""
    began = time.perf_counter()
    while any(each.waiting for each in books):
        quiet_since = max(began, *(each.last_arrival for each in books))
        if time.perf_counter() - quiet_since > _PATIENCE_S:
            return
        await asyncio.sleep(_POLL_S)


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep this process's garbage collector from pausing it: the pause would be measured as the stack's latency."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
