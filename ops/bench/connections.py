"""`connections`: how fast 10,000 clients get in, and what each costs the socket node that holds it while it is idle.

Connected means welcomed: the token was checked and `ready` was sent. Each run has a stack of its own, because memory
that a process once had for connections serves the next ones for nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from ops.bench.cpu import CpuMeter
from ops.bench.endpoint import StackError
from ops.bench.facts import Facts, Measure
from ops.bench.lab import say
from ops.bench.open_files import allow_sockets
from ops.bench.sockets import Crowd
from ops.bench.streams import no_collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.lab import Lab

NAME = "connections"
_CONNECTIONS = 10_000
_WARM_UP_USERS = 50
_SETTLE_S = 15.0  # at most; sooner where memory stands still
_LOOK_S = 1.0
_STILL = 0.002  # of it: less than that in one look is standing still
_LIMIT_S = 180.0
_KIB = 1024
MEASURES = (
    Measure("connects_per_s", "connections per s", 1_000, at_least=True),
    Measure("kib_per_connection", "memory of the socket node each, KiB", 50),
    Measure("pss_kib_per_connection", "the same as PSS, KiB"),
    Measure("rss_kib_per_connection", "the same as RSS, KiB"),
    Measure("cpu_us_per_connection", "CPU of the whole stack each, µs"),
    Measure("socket_cpu_share", "CPU of the socket node meanwhile, cores"),
    Measure("client_cpu_share", "CPU of the load generator meanwhile, cores"),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process tree: its own (USS), with its share of what it shares (PSS), and all it can see (RSS)."""

    uss: int
    pss: int
    rss: int


def run(lab: Lab) -> Iterator[Facts]:
    """Connect everybody to a new stack in each run."""
    count = lab.scaled(_CONNECTIONS, least=10)
    allow_sockets(count)
    for number in lab.runs:
        with lab.stack() as endpoint:
            lab.warm_up(endpoint, users=min(_WARM_UP_USERS, count))
            yield lab.run(_measure(lab, endpoint, count, number), limit_s=_LIMIT_S, what=f"{NAME}: {count:,} of them")


async def _measure(lab: Lab, endpoint: Endpoint, count: int, number: int) -> Facts:
    pid = endpoint.pids()["socket"]
    await asyncio.sleep(_LOOK_S)
    before = memory_of(pid)
    crowd = Crowd(endpoint, lab.prefix(), {})
    try:
        with no_collector():
            meter, started = CpuMeter(endpoint.pids), time.perf_counter()
            per_s = await crowd.connect(count, endpoint.socket_urls[:1])
            took, usage = time.perf_counter() - started, meter.read()
        after, settled_s = await _settled(pid)
        held = crowd.ready_count
    finally:
        await crowd.close()
    client_share = usage.client / took
    if client_share > 0.9:  # noqa: PLR2004  # of one core: it cannot go much faster
        say(f"the load generator used {client_share:.0%} of a core: it may be what was measured")
    return Facts(
        scenario=NAME,
        run=number,
        measures=MEASURES,
        values={
            "connects_per_s": per_s,
            "kib_per_connection": (after.uss - before.uss) / count / _KIB,
            "pss_kib_per_connection": (after.pss - before.pss) / count / _KIB,
            "rss_kib_per_connection": (after.rss - before.rss) / count / _KIB,
            "cpu_us_per_connection": usage.total * 1e6 / count,
            "socket_cpu_share": usage.by_process["socket"] / took,
            "client_cpu_share": client_share,
        },
        about={
            "connections": count,
            "uss_mib_before": round(before.uss / _KIB**2, 1),
            "uss_mib_after": round(after.uss / _KIB**2, 1),
            "settled_after_s": round(settled_s, 1),
            "cpu_us_by_process": {name: round(used * 1e6 / count, 1) for name, used in usage.by_process.items()},
        },
        faults={
            "sockets dropped": max(crowd.dropped, count - held),
            "processes restarted": len(usage.restarted),
        },
    )


async def _settled(pid: int) -> tuple[Memory, float]:
    """Wait until a process's memory stands still; return it, and how many seconds that took."""
    started = time.perf_counter()
    last = memory_of(pid)
    while True:
        await asyncio.sleep(_LOOK_S)
        now, waited = memory_of(pid), time.perf_counter() - started
        if abs(now.uss - last.uss) <= _STILL * now.uss or waited > _SETTLE_S:
            return now, waited
        last = now


def memory_of(pid: int) -> Memory:
    """Return what a process and its children hold. Raises `StackError` where the system does not say."""
    try:
        root = psutil.Process(pid)
        found = [process.memory_full_info() for process in (root, *root.children(recursive=True))]
        return Memory(
            uss=sum(each.uss for each in found),
            pss=sum(getattr(each, "pss", each.uss) for each in found),  # not everywhere
            rss=sum(each.rss for each in found),
        )
    except (psutil.Error, AttributeError) as error:
        msg = f"the memory of process {pid} cannot be read: {error!r}"
        raise StackError(msg) from error
