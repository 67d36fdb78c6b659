"""What clients leave behind in the processes that served them: nothing that grows with their number.

Descriptors, connections to Postgres and to Redis, and processes are compared with how it was before the first client
came; memory only for processes that lived through everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from ops.prove.alarm import ViolationError
from ops.prove.target import SERVERS, tree_of
from ops.prove.truth import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.prove.target import Target

SETTLE_S = 90.0  # a client that vanished without a word is noticed after 25 + 20 s, and its buffers after 20 more
DESCRIPTORS = 8  # for each process: files of metrics, a wake-up pipe: what opens on first use
REDIS_CONNECTIONS = 32  # a pool of Redis connections keeps as many as were ever needed at once
MEMORY_MB = 128.0
_POLL_S = 0.5
_LOOK_S = 1.0
_MB = 1024 * 1024
_SESSIONS = "SELECT count(*) AS sessions FROM pg_stat_activity WHERE application_name = 'bellhop'"


@dataclass(frozen=True, slots=True)
class Level:
    """What one process and its descendants hold.

    `clients` are connections to a port of its own; `others` are all descriptors but connections to the two servers.
    `redis` includes what was reset: of such a connection the kernel no longer says where it led, and a pool keeps it
    until it is needed again.
    """

    clients: int
    others: int
    postgres: int
    redis: int
    processes: int


@dataclass(frozen=True, slots=True)
class Measure:
    """All of Bellhop's processes, and the memory of each by id and birth."""

    levels: Mapping[str, Level]
    memory: Mapping[tuple[str, int, float], int]
    sessions: int


async def measure(target: Target) -> Measure:
    """Look at the stack now."""
    levels, memory = await asyncio.to_thread(_look, target)
    async with await connect(target.database_url) as database:
        (row,) = await (await database.execute(_SESSIONS)).fetchall()
    return Measure(levels, memory, row["sessions"])


async def settle(target: Target, before: Measure, pool_size: int) -> Measure:
    """Wait until nothing is left of the clients; raise `ViolationError` where something stays."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        now = await measure(target)
        left = left_over(before, now, pool_size)
        if not left:
            break
        if time.monotonic() > deadline:
            held = await asyncio.to_thread(_held, target)
            msg = f"{SETTLE_S:.0f} s after all clients have left, there is more than before: {'; '.join(left)}; {held}"
            raise ViolationError(msg)
        await asyncio.sleep(_POLL_S)
    grown = {name: mb for (name, *_), mb in growth_mb(before, now).items() if mb > MEMORY_MB}
    if grown:
        msg = f"grown by more than {MEMORY_MB:.0f} MB: {', '.join(f'{name} {mb:.0f} MB' for name, mb in grown.items())}"
        raise ViolationError(msg)
    return now


def left_over(before: Measure, now: Measure, pool_size: int) -> list[str]:
    """Return what there is more of than its tolerance allows. Pure."""
    left = [f"{name} does not run" for name in before.levels.keys() - now.levels.keys()]
    sessions = 0
    for name, level in now.levels.items():
        was = before.levels[name]
        # Served processes have a pool; worker processes a connection each.
        postgres = was.postgres if name in {"beat", "flower"} else max(was.postgres, pool_size)
        sessions += postgres
        for what, found, allowed in (
            ("connections of clients", level.clients, was.clients),
            ("descriptors", level.others, was.others + DESCRIPTORS * was.processes),
            ("connections to Postgres", level.postgres, postgres),
            ("connections to Redis", level.redis, was.redis + REDIS_CONNECTIONS),
            ("processes", level.processes, was.processes),
        ):
            if found > allowed:
                left.append(f"{name} has {found} {what}, and may have {allowed}")
        if level.processes < was.processes:
            left.append(f"{name} has {level.processes} processes instead of {was.processes}")
    if now.sessions > sessions:
        left.append(f"Postgres has {now.sessions} sessions, and may have {sessions}")
    return left


def growth_mb(before: Measure, now: Measure) -> dict[tuple[str, int, float], float]:
    """Return how much each process has grown that lived through everything."""
    return {key: (now.memory[key] - was) / _MB for key, was in before.memory.items() if key in now.memory}


def _look(target: Target) -> tuple[dict[str, Level], dict[tuple[str, int, float], int]]:
    postgres_port, redis_port = (urlsplit(url).port or 0 for url in (target.database_url, target.redis_url))
    levels: dict[str, Level] = {}
    memory: dict[tuple[str, int, float], int] = {}
    for name, pid in target.pids.items():
        if name in SERVERS:
            continue
        clients = others = postgres = redis = processes = 0
        for process in tree_of(pid):
            try:
                connections = process.net_connections("tcp")
                reset = _sockets(process) - len(process.net_connections("all"))
                descriptors = process.num_fds()
                memory[name, process.pid, process.create_time()] = process.memory_info().rss
            except (
                psutil.Error,
                OSError,
            ):  # it ended, or closed something, while we looked: the next look is without it
                continue
            own = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
            to = [each.raddr.port for each in connections if each.raddr]
            clients += sum(each.laddr.port in own for each in connections if each.raddr)
            processes += 1
            postgres += to.count(postgres_port)
            redis += to.count(redis_port) + reset
            others += descriptors - to.count(postgres_port) - to.count(redis_port) - reset
        levels[name] = Level(clients, others, postgres, redis, processes)
    return levels, memory


def _sockets(process: psutil.Process) -> int:
    links = [link.readlink() for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    return sum(str(link).startswith("socket:") for link in links)


def _held(target: Target) -> str:
    """Say what the descriptors of each process are: for whoever looks for a leak."""
    return "; ".join(f"{name} holds {_descriptors(pid)}" for name, pid in target.pids.items() if name not in SERVERS)


def _descriptors(pid: int) -> str:
    kinds: Counter[str] = Counter()
    for process in tree_of(pid):
        with suppress(OSError, psutil.Error):
            tcp = {each.fd: each for each in process.net_connections("tcp")}
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                if (connection := tcp.get(int(link.name))) is not None:
                    kinds[
                        f"{connection.status} {connection.laddr.port} {connection.raddr and connection.raddr.port}"
                    ] += 1
                else:  # the kernel no longer lists a TCP connection that was reset
                    kinds[str(link.readlink()).partition(":")[0]] += 1
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


class Seen:
    """Every process that was ever seen below this one: when the stack has stopped, none of them may be left."""

    def __init__(self) -> None:
        self._seen: set[psutil.Process] = set()

    async def look_regularly(self) -> None:
        """Look for ever."""
        while True:
            self._seen.update(await asyncio.to_thread(psutil.Process().children, recursive=True))
            await asyncio.sleep(_LOOK_S)

    def expect_none(self) -> None:
        """Raise `ViolationError` where one of them lives."""
        left = [name for process in self._seen if (name := _living(process))]
        if left:
            msg = f"processes are left after the stack has stopped: {', '.join(left)}"
            raise ViolationError(msg)


def _living(process: psutil.Process) -> str:
    try:
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return f"{process.pid} ({process.name()})" if alive else ""
    except psutil.NoSuchProcess:
        return ""
