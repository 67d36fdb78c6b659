"""`rooms`: an event of a room on its way to 5,000 members at one socket node; ours and the Node peer's, in turns.

Three paces. `rooms-paced`: on schedule, for latency. `rooms-serial`: one event at a time, so that each is a frame of
its own whoever sends it, which compares nothing but the fan-out. `rooms-flood`: several at a time, which Bellhop may
put into common frames. Then ours gets a busy room beside inboxes (`ops.bench.hot_room`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ops.bench.attendance import Attendance
from ops.bench.broadcasts import Broadcaster
from ops.bench.cpu import CpuMeter
from ops.bench.endpoint import StackError
from ops.bench.facts import Facts, Measure, in_ms, ratio
from ops.bench.hot_room import measure_hot_room
from ops.bench.lab import say
from ops.bench.load import AFTERWARDS_S, SETTLE_S
from ops.bench.members import Members
from ops.bench.open_files import allow_sockets
from ops.bench.recorder import percentile
from ops.bench.streams import no_collector, until_nothing_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.cpu import Usage
    from ops.bench.endpoint import Endpoint
    from ops.bench.lab import Lab

NAME = "rooms"
_MEMBERS = 5_000
_WARM_UP_EVENTS = 10
_LIMIT_S = 240.0
_COST = (
    Measure("cpu_us_per_delivery", "CPU of the whole stack for each delivery, µs"),
    Measure("socket_cpu_share", "CPU of the socket node meanwhile, cores"),
    Measure("client_cpu_share", "CPU of the load generator meanwhile, cores"),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many events are posted how. Without a rate, each poster waits until every member has its last one."""

    name: str
    events: int
    measures: tuple[Measure, ...]
    posters: int = 1
    rate: float | None = None

    def scaled(self, scale: float) -> Pace:
        """Return the same with a share of its events."""
        return replace(self, events=max(self.posters, round(self.events * scale)))


def _in_a_closed_loop(least_frames: float | None = None) -> tuple[Measure, ...]:
    return (
        Measure("deliveries_per_s", "deliveries (event x socket) per s", at_least=True, of_peer=1),
        Measure("frames_per_s", "WebSocket frames per s", least_frames, at_least=True),
        Measure("events_per_frame", "events in one frame"),
        Measure("p50_ms", "p50 from POST to socket, ms"),
        Measure("p99_ms", "p99 from POST to socket, ms"),
        *_COST,
    )


PACES = (
    Pace(
        "rooms-paced",
        80,
        (
            Measure("p50_ms", "p50 from POST to socket, ms"),
            Measure("p99_ms", "p99 from POST to socket, ms", 300),
            Measure("max_ms", "longest from POST to socket, ms"),
            Measure("events_per_frame", "events in one frame"),
            *_COST,
        ),
        posters=4,
        rate=4,
    ),
    Pace("rooms-serial", 60, _in_a_closed_loop(40_000)),
    Pace("rooms-flood", 60, _in_a_closed_loop(), posters=4),
)


def run(lab: Lab) -> Iterator[Facts]:
    """Put each pace to both stacks, and then the busy room to ours."""
    allow_sockets(lab.scaled(_MEMBERS, least=10))
    with lab.stack() as ours:
        lab.warm_up(ours)
        with lab.peer() as peer:
            if peer:
                lab.warm_up(peer)
            yield from _in_turns(lab, ours, peer)
        for number in lab.runs:
            yield replace(measure_hot_room(lab, ours), run=number)


def _in_turns(lab: Lab, ours: Endpoint, peer: Endpoint | None) -> Iterator[Facts]:
    """Take turns, in alternating order. A peer that fails ends its part; ours ends the scenario."""
    sides = [ours, peer] if peer else [ours]
    members = lab.scaled(_MEMBERS, least=10)
    for pace in PACES:
        for number in lab.runs:
            for endpoint in sides if number % 2 else sides[::-1]:
                what = f"{pace.name}: {endpoint.label}, {members:,} members"
                work = measure(endpoint, pace.scaled(lab.scale), members=members, prefix=lab.prefix())
                try:
                    facts = lab.run(work, limit_s=_LIMIT_S, what=what)
                except StackError as error:
                    if endpoint is ours:
                        raise
                    say(f"{error}\ngoing on without the Node peer")
                    sides = [ours]
                    continue
                yield replace(facts, run=number)


async def measure(endpoint: Endpoint, pace: Pace, *, members: int, prefix: str) -> Facts:
    """Let so many join a new room, post to it at this pace, and return what reached them when, and at what cost."""
    events = range(_WARM_UP_EVENTS, _WARM_UP_EVENTS + pace.events)
    attendance = Attendance(events.stop, members)
    crowd = Members(endpoint, prefix, attendance)
    try:
        await crowd.connect(members, endpoint.socket_urls[:1])
        await crowd.join(members)
        await asyncio.sleep(SETTLE_S)
        async with Broadcaster(crowd, pace.posters) as sender:
            await sender.post_when_everywhere(range(_WARM_UP_EVENTS), pace.posters)
            await until_nothing_waits([attendance])
            frames, arrived = attendance.frames, attendance.arrived_count
            with no_collector():
                meter, started = CpuMeter(endpoint.pids), time.perf_counter()
                if pace.rate is None:
                    await sender.post_when_everywhere(events, pace.posters)
                else:
                    await sender.post_on_schedule(events, pace.rate)
                await until_nothing_waits([attendance])
                usage, took = meter.read(), time.perf_counter() - started
        await asyncio.sleep(AFTERWARDS_S)  # late duplicates show
    finally:
        await crowd.close()
    frames, arrived = attendance.frames - frames, attendance.arrived_count - arrived
    latencies = attendance.latencies(events)
    values = {
        **_throughput(arrived, frames, attendance.last_arrival - started),
        "p50_ms": in_ms(percentile(latencies, 0.5)),
        "p99_ms": in_ms(percentile(latencies, 0.99)),
        "max_ms": in_ms(percentile(latencies, 1.0)),
        **_cost(usage, arrived, took),
    }
    return Facts(
        scenario=pace.name,
        run=1,
        label=endpoint.label,
        measures=pace.measures,
        values={each.key: values[each.key] for each in pace.measures},
        about={
            "members": members,
            "events": len(events),
            "posters": pace.posters,
            "rate": pace.rate,
            "deliveries": arrived,
            "frames": frames,
            "statuses": dict(sender.statuses),
            "cpu_us_by_process": {
                name: round(used * 1e6 / (arrived or 1), 2) for name, used in usage.by_process.items()
            },
            "client_cpu_us_per_frame": round(usage.client * 1e6 / (frames or 1), 2),
        },
        faults={
            "lost": attendance.waiting,
            "refused": attendance.refused_count,
            "duplicated": attendance.duplicates,
            "out of order": attendance.order_violations,
            "sockets dropped": crowd.dropped,
            "processes restarted": len(usage.restarted),
        },
    )


def _throughput(arrived: int, frames: int, took: float) -> dict[str, float | None]:
    return {
        "deliveries_per_s": ratio(arrived, took),
        "frames_per_s": ratio(frames, took),
        "events_per_frame": ratio(arrived, frames),
    }


def _cost(usage: Usage, arrived: int, took: float) -> dict[str, float | None]:
    return {
        "cpu_us_per_delivery": ratio(usage.total * 1e6, arrived),
        "socket_cpu_share": ratio(usage.by_process.get("socket"), took),
        "client_cpu_share": ratio(usage.client, took),
    }
