"""Breaks one thing after another, as the plan says, and mends each when its time is over.

Invariant: whatever was broken is mended before `carry_out` returns, also where that is cancelled; what was killed is
started again by the stack itself, and nobody helps it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psutil

from ops.prove import servers
from ops.prove.plan import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from ops.prove.clients import Crowd
    from ops.prove.connection import Connection
    from ops.prove.device import Device
    from ops.prove.plan import Fault
    from ops.prove.target import Target

    Breaking = Callable[[Fault], AbstractAsyncContextManager[str]]

Thing = TypeVar("Thing")

_WORKERS = ("worker", "worker-critical")
_KILLED = {
    Kind.KILL_API: "api",
    Kind.KILL_WORKER: "worker",
    Kind.KILL_WORKER_CRITICAL: "worker-critical",
    Kind.KILL_BEAT: "beat",
    Kind.KILL_REDIS: "redis",
    Kind.KILL_POSTGRES: "postgres",
}
_POLL_S = 0.1
_DROPPED = (0.3, 1.0)  # of all connections
_DEAF = (0.02, 0.1)  # of the devices with small buffers, and always the busiest
_BUSIEST = 4
_CUT = (0.4, 1.0)  # of the connections that go through a proxy
_TOLD = 0.7  # of those that were cut: the others notice by themselves, by the pings that do not come


class Faults:
    """Everything that can be broken, and how. `injected` counts what was."""

    def __init__(self, target: Target, crowd: Crowd, say: Callable[[str], None]) -> None:
        self.injected: Counter[Kind] = Counter()
        self._target = target
        self._crowd = crowd
        self._say = say
        self._untold: list[tuple[Device, Connection]] = []
        self._table: dict[Kind, Breaking] = {
            **{kind: partial(self._kill, name=name) for kind, name in _KILLED.items()},
            Kind.KILL_WORKER_CHILD: self._kill_worker_child,
            Kind.KILL_SOCKET: self._kill_socket,
            Kind.DRAIN_SOCKET: self._drain_socket,
            Kind.FLUSHALL: self._flushall,
            Kind.FREEZE_WORKER: self._freeze_worker,
            Kind.FREEZE_SOCKET: self._freeze_socket,
            Kind.DROP_CLIENTS: self._drop_clients,
            Kind.DEAF_CLIENTS: self._deaf_clients,
            Kind.CUT_CLIENTS: self._cut_clients,
            Kind.REFUSE_POSTGRES: self._refuse_postgres,
            Kind.FILL_REDIS: self._fill_redis,
        }

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """Do what the plan says, and return when all is mended. Raises `ViolationError` where something stays away."""
        started = time.monotonic()
        tasks = [asyncio.create_task(self._one(fault, started), name=fault.kind) for fault in faults]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tell_all()

    async def _one(self, fault: Fault, started: float) -> None:
        await asyncio.sleep(started + fault.at_s - time.monotonic())
        async with self._table[fault.kind](fault) as what:
            self.injected[fault.kind] += 1
            lasts = f" for {fault.lasts_s:.1f} s" if fault.lasts_s else ""
            self._say(f"{time.monotonic() - started:6.1f} s  {fault.kind}: {what}{lasts}")
            await asyncio.sleep(fault.lasts_s)

    # --- processes -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _kill(self, _: Fault, *, name: str) -> AsyncIterator[str]:
        process = await self._target.process(name)
        with suppress(psutil.NoSuchProcess):  # it may be dying of an earlier fault
            process.kill()
        yield f"{name} (process {process.pid})"
        await self._target.another(name, process)

    def _kill_socket(self, fault: Fault) -> AbstractAsyncContextManager[str]:
        return self._kill(fault, name=_chosen(self._target.socket_names, fault))

    @asynccontextmanager
    async def _drain_socket(self, fault: Fault) -> AsyncIterator[str]:
        name = _chosen(self._target.socket_names, fault)
        process = await self._target.process(name)
        with suppress(psutil.NoSuchProcess):
            process.terminate()
        yield f"{name} (process {process.pid}) is asked to go"
        await self._target.another(name, process)

    @asynccontextmanager
    async def _kill_worker_child(self, fault: Fault) -> AsyncIterator[str]:
        name = _chosen(_WORKERS, fault)
        while not (children := _children(await self._target.process(name))):  # noqa: ASYNC110  # another program's
            await asyncio.sleep(_POLL_S)  # it is starting
        child = _chosen(children, fault, then=True)
        with suppress(psutil.NoSuchProcess):
            child.kill()
        yield f"a child of {name} (process {child.pid})"

    def _freeze_worker(self, fault: Fault) -> AbstractAsyncContextManager[str]:
        return self._freeze(_chosen(_WORKERS, fault))

    def _freeze_socket(self, fault: Fault) -> AbstractAsyncContextManager[str]:
        return self._freeze(_chosen(self._target.socket_names, fault))

    @asynccontextmanager
    async def _freeze(self, name: str) -> AsyncIterator[str]:
        process = await self._target.process(name)
        frozen = [process, *_children(process)]
        try:
            for each in frozen:
                with suppress(psutil.NoSuchProcess):
                    each.suspend()
            yield f"{name} ({len(frozen)} processes)"
        finally:
            for each in frozen:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    # --- servers ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _flushall(self, _: Fault) -> AsyncIterator[str]:
        await servers.flush_redis(self._target)
        yield "redis"

    @asynccontextmanager
    async def _fill_redis(self, _: Fault) -> AsyncIterator[str]:
        try:
            await servers.fill_redis(self._target)
            yield "redis takes nothing more"
        finally:
            await servers.empty_redis(self._target)

    @asynccontextmanager
    async def _refuse_postgres(self, _: Fault) -> AsyncIterator[str]:
        try:
            await servers.refuse_connections(self._target)
            yield "postgres refuses connections"
        finally:
            await servers.allow_connections(self._target)

    # --- clients ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _drop_clients(self, fault: Fault) -> AsyncIterator[str]:
        dropped = _sample([device for device in self._crowd.devices if device.ready], _DROPPED, fault)
        for device in dropped:
            device.drop()
        yield f"{len(dropped)} connections"

    @asynccontextmanager
    async def _deaf_clients(self, fault: Fault) -> AsyncIterator[str]:
        narrow = [device for device in self._crowd.devices if device.reads and device.narrow]
        narrow.sort(key=lambda device: device.replica.seq, reverse=True)  # the busiest first: their buffers do fill
        chosen = [*narrow[:_BUSIEST], *_sample(narrow, _DEAF, fault)]
        deaf = {device.connection for device in chosen if device.connection is not None}
        try:
            for connection in deaf:
                connection.stop_reading()
            yield f"{len(deaf)} clients stop reading"
        finally:
            for connection in deaf:
                connection.read_again()

    @asynccontextmanager
    async def _cut_clients(self, fault: Fault) -> AsyncIterator[str]:
        proxied = [device for device in self._crowd.devices if device.ready and device.proxy is not None]
        chosen = _sample(proxied, _CUT, fault)
        cut = [(device, device.connection) for device in chosen if device.connection is not None]
        silenced = 0
        for proxy in self._crowd.proxies:  # one by one: connections to several of them may come from the same port
            ports = [connection.port for device, connection in cut if device.proxy is proxy]
            silenced += proxy.silence(port for port in ports if port is not None)
        told = int(len(cut) * _TOLD)
        self._untold += cut[told:]
        for device, _ in cut:
            device.avoids_proxies = True
        yield f"{silenced} connections go silent"
        _tell(cut[:told])

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, []
        _tell(untold)
        for device in self._crowd.devices:
            device.avoids_proxies = False


def _tell(cut: Sequence[tuple[Device, Connection]]) -> None:
    for device, connection in cut:
        if device.connection is connection:
            device.drop()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _generator(fault: Fault) -> random.Random:
    return random.Random(fault.draw)  # noqa: S311  # to be repeated, not to be secret


def _chosen(things: Sequence[Thing], fault: Fault, *, then: bool = False) -> Thing:
    """Choose a victim; `then`, the next one that the same fault chooses."""
    generator = _generator(fault)
    if then:
        generator.random()
    return generator.choice(things)


def _sample(things: Sequence[Thing], share: tuple[float, float], fault: Fault) -> list[Thing]:
    generator = _generator(fault)
    count = min(len(things), max(1, round(len(things) * generator.uniform(*share))))
    return generator.sample(list(things), count)
