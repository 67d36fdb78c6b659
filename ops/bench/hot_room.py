"""`rooms-hot`: a room in which a thousand things happen every second, on the node that also delivers inboxes.

200 notifications per second go to 500 users, first alone, and then while the room's events are posted. A room must not
slow inboxes down, and what happens in it becomes a bounded number of frames.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ops.bench.attendance import Attendance
from ops.bench.broadcasts import Broadcaster
from ops.bench.facts import Facts, Measure, in_ms, ratio
from ops.bench.load import AFTERWARDS_S, SETTLE_S
from ops.bench.members import Members
from ops.bench.recorder import percentile
from ops.bench.scenarios import STEADY
from ops.bench.sockets import Crowd
from ops.bench.streams import Stream, no_collector, until_all_arrived, until_nothing_waits

if TYPE_CHECKING:
    from ops.bench.endpoint import Endpoint
    from ops.bench.lab import Lab

NAME = "rooms-hot"
_MEMBERS = 50
_EVENTS, _RATE = 10_000, 1_000.0
_CONNECTIONS = 32
_LIMIT_S = 180.0
MEASURES = (
    Measure("inbox_p50_alone_ms", "inboxes, p50 alone, ms"),
    Measure("inbox_p99_alone_ms", "inboxes, p99 alone, ms"),
    Measure("inbox_p50_ms", "inboxes, p50 beside the room, ms"),
    Measure("inbox_p99_ms", "inboxes, p99 beside the room, ms"),
    Measure("inbox_p99_times_alone", "inboxes, p99 against p99 alone, times"),
    Measure("room_events_per_s", "events of the room per s"),
    Measure("room_frames", "frames that they became, for each member"),
    Measure("events_per_frame", "events in one frame"),
    Measure("room_p50_ms", "room, p50 from POST to socket, ms"),
    Measure("room_p99_ms", "room, p99 from POST to socket, ms"),
    Measure("client_cpu_share", "CPU of the load generator meanwhile, cores"),
)


def measure_hot_room(lab: Lab, endpoint: Endpoint) -> Facts:
    """Measure it once on a stack that is warm."""
    return lab.run(_measure(lab, endpoint), limit_s=_LIMIT_S, what=f"{NAME}: {endpoint.label}")


async def _measure(lab: Lab, endpoint: Endpoint) -> Facts:
    scale = min(1.0, lab.scale)
    alone, beside = (Stream(STEADY.scaled(scale)) for _ in range(2))
    events, count = range(max(1, round(_EVENTS * scale))), lab.scaled(_MEMBERS)
    attendance = Attendance(len(events), count)
    crowd = Crowd(endpoint, lab.prefix(), {stream.name: stream.recorder for stream in (alone, beside)})
    members = Members(endpoint, lab.prefix(), attendance)
    node = endpoint.socket_urls[:1]
    try:
        await crowd.connect(lab.users, node)
        await members.connect(count, node)
        await members.join(count)
        await asyncio.sleep(SETTLE_S)
        with no_collector():
            await alone.post(crowd)
            await until_all_arrived([alone])
            async with Broadcaster(members, _CONNECTIONS) as sender:
                cpu_s, started = time.process_time(), time.perf_counter()
                async with asyncio.TaskGroup() as both:
                    both.create_task(beside.post(crowd))
                    both.create_task(sender.post_on_schedule(events, _RATE))
                await until_nothing_waits([beside.recorder, attendance])
                client_cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - started)
        await asyncio.sleep(AFTERWARDS_S)  # late duplicates show
    finally:
        await crowd.close()
        await members.close()
    return Facts(
        scenario=NAME,
        run=1,
        measures=MEASURES,
        values={
            **_inboxes(alone, beside),
            "room_events_per_s": ratio(attendance.arrived_count / count, attendance.last_arrival - started),
            "room_frames": attendance.frames / count,
            **_room(attendance, events),
            "client_cpu_share": client_cpu_share,
        },
        about={
            "members": count,
            "events": len(events),
            "events_rate": _RATE,
            "users": lab.users,
            "notifications": beside.recorder.sent_count,
            "rate": beside.scenario.rate,
            "statuses": dict(sender.statuses),
        },
        faults={
            "lost": attendance.waiting + alone.recorder.waiting + beside.recorder.waiting,
            "refused": attendance.refused_count + alone.recorder.refused_count + beside.recorder.refused_count,
            "duplicated": attendance.duplicates + alone.recorder.duplicates + beside.recorder.duplicates,
            "out of order": attendance.order_violations + (crowd.order_violations or 0),
            "sockets dropped": crowd.dropped + members.dropped,
        },
    )


def _inboxes(alone: Stream, beside: Stream) -> dict[str, float | None]:
    before, now = alone.recorder.latencies(), beside.recorder.latencies()
    return {
        "inbox_p50_alone_ms": in_ms(percentile(before, 0.5)),
        "inbox_p99_alone_ms": in_ms(percentile(before, 0.99)),
        "inbox_p50_ms": in_ms(percentile(now, 0.5)),
        "inbox_p99_ms": in_ms(percentile(now, 0.99)),
        "inbox_p99_times_alone": ratio(percentile(now, 0.99), percentile(before, 0.99)),
    }


def _room(attendance: Attendance, events: range) -> dict[str, float | None]:
    taken = attendance.latencies(events)
    return {
        "events_per_frame": ratio(attendance.arrived_count, attendance.frames),
        "room_p50_ms": in_ms(percentile(taken, 0.5)),
        "room_p99_ms": in_ms(percentile(taken, 0.99)),
    }
