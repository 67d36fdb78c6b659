"""`storm`: one of three socket nodes is killed, its 5,000 clients come back through the other two, and miss nothing.

They come back with `since`, while notifications are posted to them. Twice: all at once, and spread over a second as
JavaScript clients do by themselves. An attempt that fails is made again, at the other node, after a pause.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import picows

from ops.bench.endpoint import StackError
from ops.bench.facts import Facts, Measure
from ops.bench.open_files import allow_sockets
from ops.bench.recorder import percentile
from ops.bench.scenarios import Scenario
from ops.bench.sockets import Crowd
from ops.bench.streams import Stream, no_collector, until_all_arrived

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.lab import Lab

NAME = "storm"
_CLIENTS = 5_000
_EACH_WHILE_AWAY = 2
_NODES, _VICTIM = 3, 2  # the second of the three
_PAUSES_S = {"at-once": (0.0, 0.0), "jitter": (0.5, 1.5)}  # before a client's first attempt: from, to
_NEXT_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
_SETTLE_S = 2.0  # acknowledgements are written
_GIVE_UP_S = 120.0
_LIMIT_S = 300.0
_BACK_S = 60.0
_LOOK_S = 0.1
_PROBE_S = 2.0
_OK = 200
MEASURES = (
    Measure("caught_up_s", "until all had everything, s", 20),
    Measure("ready_s", "until all were welcomed, s"),
    Measure("ready_p50_s", "until half were welcomed, s"),
    Measure("accepted_s", "until all that was posted meanwhile was accepted, s"),
    Measure("failed_attempts", "attempts to connect that failed"),
    Measure("client_cpu_share", "CPU of the load generator meanwhile, cores"),
)


def run(lab: Lab) -> Iterator[Facts]:
    """Kill the node twice in each run: its clients come back at once, and with the pause of real ones."""
    clients = lab.scaled(_CLIENTS, least=10)
    allow_sockets(clients)
    with lab.stack(_NODES) as endpoint:
        lab.warm_up(endpoint, users=min(lab.users, clients))
        for number in lab.runs:
            for name, pause_s in _PAUSES_S.items():
                storm = _Storm(lab, endpoint, clients, pause_s)
                lab.run(storm.blow(), limit_s=_LIMIT_S, what=f"{NAME}, {name}: {clients:,} clients")
                _wait_until_ready(endpoint.socket_urls[_VICTIM - 1])  # for what is measured next on this stack
                yield storm.facts(f"{NAME}-{name}", number)


@dataclass(slots=True)
class _Return:
    """The clients' way back, in seconds after the kill."""

    killed_at: float = 0.0
    ready_s: dict[int, float] = field(default_factory=dict)
    failed: int = 0
    again: int = 0  # sockets that closed once more after they had come back
    accepted_s: float = 0.0
    caught_up_s: float = 0.0
    client_cpu_share: float = 0.0


class _Storm:
    def __init__(self, lab: Lab, endpoint: Endpoint, clients: int, pause_s: tuple[float, float]) -> None:
        self._endpoint = endpoint
        self._clients = clients
        self._pause_s = pause_s
        self._urls = [url for nth, url in enumerate(endpoint.socket_urls, 1) if nth != _VICTIM]
        self._before = Stream(Scenario("before", clients, per_request=100))
        self._away = Stream(Scenario("away", clients * _EACH_WHILE_AWAY, per_request=100))
        self._streams = (self._before, self._away)
        self._crowd = Crowd(endpoint, lab.prefix(), {stream.name: stream.recorder for stream in self._streams})
        self._returning: set[asyncio.Task[None]] = set()
        self._way = _Return()

    async def blow(self) -> None:
        """Connect all to one node, kill it, and wait until all are back and have everything, or two minutes."""
        crowd, way = self._crowd, self._way
        try:
            await crowd.connect(self._clients, [self._endpoint.socket_urls[_VICTIM - 1]])
            await self._before.post(crowd)
            await until_all_arrived([self._before])
            await asyncio.sleep(_SETTLE_S)
            crowd.on_drop = self._come_back
            with no_collector():
                cpu_s, way.killed_at = time.process_time(), time.perf_counter()
                os.kill(self._endpoint.pids()[f"socket-{_VICTIM}"], signal.SIGKILL)
                await self._away.post(crowd)
                way.accepted_s = self._away.posted - way.killed_at
                await self._until_all_are_back()
                await until_all_arrived([self._away])
                way.caught_up_s = max(self._away.recorder.last_arrival - way.killed_at, *way.ready_s.values(), 0.0)
                way.client_cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - way.killed_at)
            await asyncio.sleep(_SETTLE_S)  # late duplicates show
        finally:
            await crowd.close()
            for task in self._returning:
                task.cancel()

    def _come_back(self, number: int) -> None:
        self._way.again += number in self._way.ready_s
        task = asyncio.create_task(self._reconnect(number))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _reconnect(self, number: int) -> None:
        pause_s, longest_s = random.uniform(*self._pause_s), _NEXT_PAUSE_S  # noqa: S311  # spreads load, hides nothing
        for url in (self._urls[(number + attempt) % len(self._urls)] for attempt in range(1_000)):
            await asyncio.sleep(pause_s)
            try:
                await self._crowd.reconnect(number, url)
            except (OSError, picows.WSError, StackError):
                self._way.failed += 1
                pause_s, longest_s = random.uniform(0.5, 1.5) * longest_s, min(2 * longest_s, _LONGEST_PAUSE_S)  # noqa: S311
            else:
                self._way.ready_s[number] = time.perf_counter() - self._way.killed_at
                return

    async def _until_all_are_back(self) -> None:
        while len(self._way.ready_s) < self._clients or self._crowd.ready_count < self._clients:
            if time.perf_counter() - self._way.killed_at > _GIVE_UP_S:
                return
            await asyncio.sleep(_LOOK_S)

    def facts(self, scenario: str, number: int) -> Facts:
        """Return what was seen. Who is not back after two minutes never came back."""
        way, crowd = self._way, self._crowd
        ready = sorted(way.ready_s.values())
        missing = self._clients - len(ready)
        return Facts(
            scenario=scenario,
            run=number,
            measures=MEASURES,
            values={
                "caught_up_s": None if missing else way.caught_up_s,
                "ready_s": None if missing else ready[-1],
                "ready_p50_s": percentile(ready, 0.5),
                "accepted_s": way.accepted_s,
                "failed_attempts": way.failed,
                "client_cpu_share": way.client_cpu_share,
            },
            about={
                "clients": self._clients,
                "nodes_left": len(self._urls),
                "posted_while_away": self._away.recorder.sent_count,
                "pause_s": list(self._pause_s),
                "closed_again": way.again,
            },
            faults={
                "lost": sum(stream.recorder.waiting for stream in self._streams),
                "refused": sum(stream.recorder.refused_count for stream in self._streams),
                "duplicated": sum(stream.recorder.duplicates for stream in self._streams),
                "out of order": crowd.order_violations or 0,
                "clients that did not come back": missing,
            },
        )


def _wait_until_ready(url: str) -> None:
    """Wait for a node that was killed to run again. Raises `StackError`."""
    began, why = time.monotonic(), ""
    while time.monotonic() - began < _BACK_S:
        why = _why_not_ready(url)
        if not why:
            return
        time.sleep(_LOOK_S)
    msg = f"the socket node at {url} was not back after {_BACK_S:.0f} s: {why}"
    raise StackError(msg)


def _why_not_ready(url: str) -> str:
    """Return what keeps a node from being ready; nothing where it is."""
    address = urlsplit(url)
    probe = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_PROBE_S)
    try:
        probe.request("GET", "/health/ready")
        answer = probe.getresponse()
        return "" if answer.status == _OK else answer.read(300).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        probe.close()
