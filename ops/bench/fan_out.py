"""`fan-out`: one notification to a topic with a million subscribers, a thousand of them online, beside critical ones.

The subscribers are put into the tables by SQL; the notification is posted. Its recipients are counted in the tables:
each must have it exactly once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import orjson

from ops.bench.endpoint import StackError
from ops.bench.facts import Facts, Measure, in_ms, ratio
from ops.bench.fill import TYPE, filler
from ops.bench.lab import backstage_of
from ops.bench.load import SETTLE_S
from ops.bench.posting import REQUEST_TIMEOUT_S
from ops.bench.recorder import Recorder, percentile
from ops.bench.scenarios import Scenario
from ops.bench.sockets import Crowd
from ops.bench.streams import Stream, no_collector, until_all_arrived, until_nothing_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.fill import Filler
    from ops.bench.lab import Lab

NAME = "fan-out"
_SUBSCRIBERS = 1_000_000
_ONLINE = 1_000
_CRITICAL = Scenario("critical", 1_000, rate=100, priority="critical")
_LOOK_S = 0.1
_LIMIT_S = 600.0
_ACCEPTED = 202
MEASURES = (
    Measure("answer_ms", "the answer to the POST, ms", 100),
    Measure("first_socket_ms", "until the first socket has it, ms", 1_000),
    Measure("last_socket_s", "until the last socket has it, s"),
    Measure("last_inbox_s", "until the last inbox has it, s", 25),
    Measure("inboxes_per_s", "inboxes per s"),
    Measure("idle_p99_ms", "p99 of critical ones alone, ms"),
    Measure("p99_ms", "p99 of critical ones meanwhile, ms"),
    Measure("p99_times_idle", "p99 against p99 alone, times", 1.5),
)


def run(lab: Lab) -> Iterator[Facts]:
    """Measure, as often as is asked for, on one stack."""
    with lab.stack() as endpoint, filler(backstage_of(endpoint)) as tables:
        lab.warm_up(endpoint)
        for number in lab.runs:
            found = lab.run(_measure(lab, endpoint, tables), limit_s=_LIMIT_S, what=NAME)
            yield replace(found, run=number)


class _AtEverySocket(Recorder):
    """Of one notification, at how many sockets it has arrived, and when first."""

    def __init__(self, sockets: int) -> None:
        super().__init__(1)
        self._sockets = sockets
        self.first_arrival = 0.0

    def arrived(self, number: int, at: float) -> None:
        """Note an arrival at one more socket; `InboxOrder` finds a second one at the same."""
        self.duplicates += number != 0 or self.arrived_count == self._sockets
        self.first_arrival = self.first_arrival or at
        self.arrived_count += 1
        self.last_arrival = at

    @property
    def waiting(self) -> int:
        """How many sockets do not have it."""
        return max(0, self._sockets - self.arrived_count)


async def _measure(lab: Lab, endpoint: Endpoint, tables: Filler) -> Facts:
    critical = _CRITICAL.scaled(min(1.0, lab.scale))
    idle, beside = Stream(critical), Stream(critical)
    subscribers, online = lab.scaled(_SUBSCRIBERS), lab.scaled(_ONLINE, least=2)
    everywhere, name = _AtEverySocket(online), lab.prefix()
    prefix = lab.prefix()
    crowd = Crowd(endpoint, prefix, {idle.name: idle.recorder, beside.name: beside.recorder, name: everywhere})
    try:
        await crowd.connect(online)
        await asyncio.to_thread(tables.subscribers, name, subscribers, prefix=prefix)
        await asyncio.to_thread(tables.tidy)  # a server that has stored a million users has also written that down
        await asyncio.sleep(SETTLE_S)
        with no_collector():
            await idle.post(crowd)
            await until_all_arrived([idle])
            began, answered, notification_id = await _broadcast(endpoint, name)
            done = asyncio.create_task(_until_done(tables, notification_id))
            await beside.post(crowd, go_on=lambda: not (done.done() and beside.recorder.sent_count))
            ended = await done
            await until_nothing_waits([beside.recorder, everywhere])
    finally:
        await crowd.close()
    deliveries, users = await asyncio.to_thread(tables.recipients, notification_id)
    await asyncio.to_thread(tables.tidy)
    alone, meanwhile = (percentile(stream.recorder.latencies(), 0.99) for stream in (idle, beside))
    return Facts(
        scenario=NAME,
        run=1,
        measures=MEASURES,
        values={
            "answer_ms": in_ms(answered - began),
            "first_socket_ms": in_ms(everywhere.first_arrival - began),
            "last_socket_s": everywhere.last_arrival - began,
            "last_inbox_s": ended - began,
            "inboxes_per_s": subscribers / (ended - began),
            "idle_p99_ms": in_ms(alone),
            "p99_ms": in_ms(meanwhile),
            "p99_times_idle": ratio(meanwhile, alone),
        },
        about={
            "subscribers": subscribers,
            "online": online,
            "critical": beside.recorder.sent_count,
            "rate": critical.rate,
        },
        faults={
            "lost": subscribers - users + everywhere.waiting + idle.recorder.waiting + beside.recorder.waiting,
            "refused": idle.recorder.refused_count + beside.recorder.refused_count,
            "duplicated": deliveries
            - users
            + sum(each.duplicates for each in (everywhere, idle.recorder, beside.recorder)),
            "out of order": crowd.order_violations or 0,
            "sockets dropped": crowd.dropped,
        },
    )


async def _broadcast(endpoint: Endpoint, topic: str) -> tuple[float, float, str]:
    """Post the notification; return when that began, when it was answered, and its id. Raises `StackError`."""
    body = {"to": {"topic": topic}, "type": TYPE, "title": "To all of you", "data": {"stream": topic, "number": 0}}
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    headers = {"Content-Type": "application/json", **endpoint.headers}
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        began = time.perf_counter()
        async with http.post(endpoint.single_url, data=orjson.dumps(body)) as response:
            answer = await response.read()
            answered = time.perf_counter()
    if response.status != _ACCEPTED:
        msg = f"the broadcast was answered {response.status}: {answer[:300].decode(errors='replace')}"
        raise StackError(msg)
    return began, answered, str(orjson.loads(answer)["id"])


async def _until_done(tables: Filler, notification_id: str) -> float:
    """Return when the last inbox had it, a moment late at the most."""
    while not await asyncio.to_thread(tables.is_dispatched, notification_id):  # noqa: ASYNC110  # asks a database
        await asyncio.sleep(_LOOK_S)
    return time.perf_counter()
