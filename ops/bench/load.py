"""One measured run of one scenario against one stack: connect, send, wait, count.

Bounded: it gives up ten seconds after the last arrival, and after `_LIMIT_S` in any case. What was accepted and did not
arrive until then is lost, as far as the figures are concerned.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.bench.cpu import CpuMeter
from ops.bench.endpoint import StackError
from ops.bench.figures import Backlog, Figures
from ops.bench.recorder import percentile
from ops.bench.scenarios import backlog_of
from ops.bench.sockets import Crowd
from ops.bench.streams import Stream, no_collector, until_all_arrived

if TYPE_CHECKING:
    from ops.bench.cpu import Usage
    from ops.bench.endpoint import Endpoint
    from ops.bench.scenarios import Scenario

_LIMIT_S = 300.0
SETTLE_S = 0.5  # what a stack still does for new connections is not part of a run
AFTERWARDS_S = 0.75  # late duplicates show, and acknowledgements are written, whose CPU is part of the run


async def measure(endpoint: Endpoint, scenario: Scenario, *, users: int, prefix: str, run: int = 1) -> Figures:
    """Run a scenario and return its figures. Raises `StackError` where the stack does not work at all."""
    try:
        async with asyncio.timeout(_LIMIT_S):
            return await _measure(endpoint, scenario, users=users, prefix=prefix, run=run)
    except TimeoutError:
        msg = f"{endpoint.label}: {scenario.name} was not over after {_LIMIT_S:.0f} s"
        raise StackError(msg) from None


async def _measure(endpoint: Endpoint, scenario: Scenario, *, users: int, prefix: str, run: int) -> Figures:
    main = Stream(scenario)
    low = Stream(backlog_of(scenario)) if scenario.backlog else None
    streams = [main, low] if low else [main]
    crowd = Crowd(endpoint, prefix, {stream.name: stream.recorder for stream in streams})
    try:
        connects_per_s = await crowd.connect(users)
        await asyncio.sleep(SETTLE_S)
        with no_collector():
            meter = CpuMeter(endpoint.pids)
            backlog = None
            if low:
                await low.post(crowd)
                arrived_before = low.recorder.arrived_count
                await main.post(crowd, go_on=lambda: low.recorder.waiting > 0)
                backlog = (arrived_before, low.recorder.arrived_count)
            else:
                await main.post(crowd)
            await until_all_arrived(streams)
            await asyncio.sleep(AFTERWARDS_S)
            usage = meter.read()
    finally:
        await crowd.close()
    figures = _figures(main, crowd, usage, users=users, connects_per_s=connects_per_s, run=run)
    return replace(figures, backlog=_backlog(low, *backlog)) if low and backlog else figures


def _figures(main: Stream, crowd: Crowd, usage: Usage, *, users: int, connects_per_s: float, run: int) -> Figures:
    scenario, recorder = main.scenario, main.recorder
    latencies = recorder.latencies()
    p50, p95, p99, longest = (_ms(percentile(latencies, share)) for share in (0.5, 0.95, 0.99, 1.0))
    handled = sum(each.arrived_count for each in crowd.streams.values()) or 1
    return Figures(
        scenario=scenario.name,
        label=crowd.endpoint.label,
        run=run,
        users=users,
        n=recorder.sent_count,
        per_request=scenario.per_request,
        in_flight=scenario.in_flight,
        rate=scenario.rate,
        priority=scenario.priority,
        connects_per_s=round(connects_per_s),
        ingest_per_s=main.ingest_per_s,
        end_to_end_per_s=main.end_to_end_per_s,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=longest,
        lost=recorder.waiting,
        refused=recorder.refused_count,
        duplicates=recorder.duplicates,
        order_violations=crowd.order_violations,
        dropped_sockets=crowd.dropped,
        statuses=main.statuses,
        restarted=usage.restarted,
        cpu_us_per_notification=_us(usage.total, handled),
        cpu_us_by_process={name: _us(seconds, handled) for name, seconds in usage.by_process.items()},
        client_cpu_us_per_notification=_us(usage.client, handled),
    )


def _backlog(low: Stream, arrived_before: int, arrived_after: int) -> Backlog:
    recorder = low.recorder
    accepted = recorder.sent_count - recorder.refused_count
    return Backlog(
        n=recorder.sent_count,
        ingest_per_s=low.ingest_per_s,
        end_to_end_per_s=low.end_to_end_per_s,
        waiting_at_start=accepted - arrived_before,
        arrived_meanwhile=arrived_after - arrived_before,
        waiting_at_end=accepted - arrived_after,
        lost=recorder.waiting,
        refused=recorder.refused_count,
        duplicates=recorder.duplicates,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _us(seconds: float, count: int) -> float:
    return round(seconds * 1e6 / count, 1)
