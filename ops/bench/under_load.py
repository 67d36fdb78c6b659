"""`critical-under-load`: how fast critical ones are while half a million low ones wait, and whether low still moves.

The low ones are put into the tables by SQL and become visible all at once; the stack's own sweep finds them. Twice: for
the users who get the critical ones, whose inboxes both must number, and for others, who are offline.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ops.bench.endpoint import StackError
from ops.bench.facts import Facts, Measure, in_ms, ratio
from ops.bench.fill import filler
from ops.bench.lab import backstage_of
from ops.bench.load import SETTLE_S
from ops.bench.recorder import percentile
from ops.bench.scenarios import Scenario
from ops.bench.sockets import Crowd
from ops.bench.streams import Stream, no_collector, until_all_arrived

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.fill import Filler
    from ops.bench.lab import Lab

NAME = "critical-under-load"
_LOW = 500_000
_CRITICAL = Scenario("critical", 1_000, rate=100, priority="critical")
_AUDIENCES = {"same": "the same users", "others": "others, who are offline"}
_DRAIN_S = 300.0
_LIMIT_S = 600.0
_FOUND_S = 30.0
_LOOK_S = 0.25
MEASURES = (
    Measure("idle_p50_ms", "p50 alone, ms"),
    Measure("idle_p99_ms", "p99 alone, ms"),
    Measure("p50_ms", "p50 while low ones wait, ms"),
    Measure("p99_ms", "p99 while low ones wait, ms", 250),
    Measure("max_ms", "longest while low ones wait, ms"),
    Measure("p99_times_idle", "p99 against p99 alone, times", 3),
    Measure("low_at_start", "low ones waiting at the start"),
    Measure("low_at_end", "low ones waiting at the end"),
    Measure("low_meanwhile", "low ones dispatched meanwhile", 1, at_least=True),
    Measure("low_per_s", "low ones per s, until none waited"),
    Measure("client_cpu_share", "CPU of the load generator, cores"),
)


def run(lab: Lab) -> Iterator[Facts]:
    """Measure each audience, in turns."""
    with lab.stack() as endpoint, filler(backstage_of(endpoint)) as tables:
        lab.warm_up(endpoint)
        for number in lab.runs:
            for audience, who in _AUDIENCES.items():
                work = _measure(lab, endpoint, tables, audience)
                found = lab.run(work, limit_s=_LIMIT_S, what=f"{NAME}, low ones for {who}")
                yield replace(found, run=number)


async def _measure(lab: Lab, endpoint: Endpoint, tables: Filler, audience: str) -> Facts:
    critical = _CRITICAL.scaled(min(1.0, lab.scale))
    idle, loaded = Stream(critical), Stream(critical)
    low = Stream(Scenario("low", lab.scaled(_LOW), priority="low"))
    prefix = lab.prefix()
    theirs = prefix if audience == "same" else lab.prefix()
    crowd = Crowd(endpoint, prefix, {stream.name: stream.recorder for stream in (idle, loaded, low)})
    try:
        await crowd.connect(lab.users)
        await asyncio.sleep(SETTLE_S)
        with no_collector():
            await idle.post(crowd)
            await until_all_arrived([idle])
            await asyncio.to_thread(tables.backlog, low.scenario.count, users=lab.users, prefix=theirs, stream=low.name)
            low.written(time.perf_counter())
            became = await _send_beside(tables, loaded, low, crowd)
            if audience == "same":
                await until_all_arrived([low])
    finally:
        await crowd.close()
    if audience == "same":
        lost, doubled = low.recorder.waiting - became.given_up, low.recorder.duplicates
    else:
        deliveries, notifications, numbered = await asyncio.to_thread(tables.deliveries, theirs)
        lost = low.scenario.count - became.given_up - notifications
        doubled = deliveries - notifications + abs(numbered - deliveries)
    await asyncio.to_thread(tables.tidy)  # the next audience is to meet clean tables
    streams = (idle, loaded)
    return Facts(
        scenario=f"{NAME}-{audience}",
        run=1,
        measures=MEASURES,
        values={**_latencies(idle, loaded), **became.values(low.scenario.count)},
        about={
            "critical": loaded.recorder.sent_count,
            "rate": critical.rate,
            "users": lab.users,
            "low": low.scenario.count,
            "low_for": audience,
            "low_given_up": became.given_up,
        },
        faults={
            "lost": lost + sum(stream.recorder.waiting for stream in streams),
            "refused": sum(stream.recorder.refused_count for stream in streams),
            "duplicated": doubled + sum(stream.recorder.duplicates for stream in streams),
            "out of order": crowd.order_violations or 0,
            "sockets dropped": crowd.dropped,
        },
    )


@dataclass(slots=True)
class _Low:
    """What became of the low ones. `gone` is set when none wait any more."""

    gone: asyncio.Event = field(default_factory=asyncio.Event)
    at_start: int = 0
    at_end: int = 0
    drained_s: float = 0.0
    given_up: int = 0
    client_cpu_share: float = 0.0

    def values(self, written: int) -> dict[str, float | None]:
        """Return what the measures name."""
        return {
            "low_at_start": self.at_start,
            "low_at_end": self.at_end,
            "low_meanwhile": self.at_start - self.at_end,
            "low_per_s": (written - self.given_up) / self.drained_s,
            "client_cpu_share": self.client_cpu_share,
        }


async def _send_beside(tables: Filler, loaded: Stream, low: Stream, crowd: Crowd) -> _Low:
    """Send the critical ones while low ones wait; then give the stack some minutes to finish the low ones."""
    became = _Low(at_start=await _first_moved(tables, low))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(tables, became.gone))
        cpu_s = time.process_time()
        await loaded.post(crowd, go_on=lambda: not (became.gone.is_set() and loaded.recorder.sent_count))
        became.client_cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - loaded.started)
        became.at_end = await asyncio.to_thread(tables.low_left)
        await until_all_arrived([loaded])
        with suppress(TimeoutError):
            await asyncio.wait_for(became.gone.wait(), _DRAIN_S)
        watching.cancel()
    became.drained_s = time.perf_counter() - low.started
    became.given_up = await asyncio.to_thread(tables.drop_low)
    return became


async def _first_moved(tables: Filler, low: Stream) -> int:
    """Wait for the stack to find the low ones, and return how many still wait then. Raises `StackError`."""
    while (left := await asyncio.to_thread(tables.low_left)) == low.scenario.count:
        if time.perf_counter() - low.started > _FOUND_S:
            msg = f"no low one was dispatched within {_FOUND_S:.0f} s"
            raise StackError(msg)
        await asyncio.sleep(_LOOK_S)
    return left


async def _watch(tables: Filler, gone: asyncio.Event) -> None:
    """Look now and then whether low ones still wait."""
    while not gone.is_set():
        await asyncio.sleep(_LOOK_S)
        if not await asyncio.to_thread(tables.any_low_left):
            gone.set()


def _latencies(idle: Stream, loaded: Stream) -> dict[str, float | None]:
    alone, beside = idle.recorder.latencies(), loaded.recorder.latencies()
    p99 = percentile(beside, 0.99)
    return {
        "idle_p50_ms": in_ms(percentile(alone, 0.5)),
        "idle_p99_ms": in_ms(percentile(alone, 0.99)),
        "p50_ms": in_ms(percentile(beside, 0.5)),
        "p99_ms": in_ms(p99),
        "max_ms": in_ms(percentile(beside, 1.0)),
        "p99_times_idle": ratio(p99, percentile(alone, 0.99)),
    }
