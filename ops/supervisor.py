"""Keeps a set of processes running: starts, watches, restarts and stops them, all in one event loop.

Invariants: every child leads a group of its own, and when the child ends, nothing of its group stays; a child that
ends unasked is started again after a back-off; children end with the supervisor even where that is killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from ops.log_lines import LINE_LIMIT
from ops.system_user import launched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.embedded import EmbeddedPostgres, EmbeddedValkey
    from ops.log_lines import LogLines
    from ops.processes import ProcessSpec

_CHECKOUT = Path(__file__).resolve().parent.parent
_BACK_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
_STABLE_S = 10.0
_POLL_S = 0.05
_WATCH_INTERVAL_S = 5.0
WATCHDOG_S = 30.0
STOP_S = 10.0
START_S = 90.0


class StartError(Exception):
    """Something does not come up; the text says what."""


@dataclass(slots=True)
class Child:
    """One supervised program: how to start it and how to ask whether it is ready."""

    name: str
    command: Callable[[], Awaitable[list[str]]]
    ready: Callable[[], Awaitable[bool]]
    env: dict[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    watched: Callable[[], Awaitable[bool]] | None = None
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    stopping: bool = False
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        """The process id of the one that runs now."""
        return self.process.pid if self.process and self.process.returncode is None else None


class Supervisor:
    """Runs children. `on_change` is called after each start and restart."""

    def __init__(self, lines: LogLines, on_change: Callable[[], None]) -> None:
        self._lines = lines
        self._on_change = on_change
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return {child.name: child.pid for child in self._children if child.pid is not None}

    async def start(self, *children: Child) -> None:
        """Start children together and return when all are ready. Raises `StartError`."""
        for child in children:
            self._children.append(child)
            self._tasks.append(asyncio.create_task(self._run(child), name=child.name))
            if child.watched is not None:
                self._tasks.append(asyncio.create_task(self._watch(child, child.watched)))
        ready = asyncio.gather(*(child.is_ready.wait() for child in children))
        broken = asyncio.create_task(_first_failure(self._tasks))
        try:
            waited_for: set[asyncio.Future[Any]] = {ready, broken}
            await asyncio.wait(waited_for, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                broken.result()
            if not ready.done():
                late = ", ".join(child.name for child in children if not child.is_ready.is_set())
                msg = f"not ready after {START_S:.0f} s: {late}"
                raise StartError(msg)
        finally:
            broken.cancel()
            ready.cancel()
            await asyncio.gather(broken, ready, return_exceptions=True)

    async def failure(self) -> None:
        """Raise what ended the supervision of a child, if anything ever does."""
        await _first_failure(self._tasks)

    async def _run(self, child: Child) -> None:
        failures = 0
        while not child.stopping:
            started = time.monotonic()
            try:
                process, output = await self._spawn(child)
            except OSError as error:
                msg = f"{child.name} cannot be started: {error}"
                raise StartError(msg) from error
            follower = asyncio.create_task(self._lines.follow(child.name, output))
            prober = asyncio.create_task(self._become_ready(child))
            self._on_change()
            code = await process.wait()
            _kill_group(process.pid)
            prober.cancel()
            await asyncio.gather(prober, return_exceptions=True)
            await asyncio.wait({follower}, timeout=1)
            follower.cancel()
            if child.stopping:
                return
            failures = 0 if time.monotonic() - started > _STABLE_S else failures + 1
            if not child.is_ready.is_set() and failures > len(_BACK_OFF_S) - 2:
                msg = f"{child.name} {_ending(code)}, {failures} times before it was ready; its own lines above say why"
                raise StartError(msg)
            pause = _BACK_OFF_S[min(max(failures - 1, 0), len(_BACK_OFF_S) - 1)]
            self._lines.say("bellhop", f"{child.name} {_ending(code)}; starting it again in {pause:g} s", loud=True)
            await asyncio.sleep(pause)

    async def _spawn(self, child: Child) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        command = await child.command()
        if child.stopping:
            raise asyncio.CancelledError
        # A pipe of our own: with asyncio's, the child counts as running while a grandchild holds its output open.
        reading, writing = os.pipe()
        try:
            child.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=_CHECKOUT,
                env=child.env,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        child.starts += 1
        output = asyncio.StreamReader(limit=LINE_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", buffering=0)
        )
        return child.process, output

    async def _become_ready(self, child: Child) -> None:
        while not await child.ready():  # noqa: ASYNC110  # asks another process
            await asyncio.sleep(_POLL_S)
        if child.starts > 1:
            self._lines.say("bellhop", f"{child.name} is back (process {child.pid})")
        child.is_ready.set()

    async def _watch(self, child: Child, answers: Callable[[], Awaitable[bool]]) -> None:
        await child.is_ready.wait()
        watched_pid, last = child.pid, time.monotonic()
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            if child.pid != watched_pid or await answers():
                watched_pid, last = child.pid, time.monotonic()
            elif time.monotonic() - last > WATCHDOG_S and watched_pid is not None:
                self._lines.say("bellhop", f"{child.name} gave no sign of life for {WATCHDOG_S:.0f} s", loud=True)
                _kill_group(watched_pid)

    async def stop(self, *names: str) -> None:
        """Stop the named children, or all: ask, wait, then kill."""
        chosen = [child for child in self._children if not names or child.name in names]
        for child in chosen:
            child.stopping = True
            if child.process and child.pid is not None:
                with suppress(ProcessLookupError):
                    child.process.send_signal(child.stop_signal)
        waits = [asyncio.create_task(child.process.wait()) for child in chosen if child.process]
        if waits:
            await asyncio.wait(waits, timeout=STOP_S)
        for child in chosen:
            if child.pid is not None:
                self._lines.say("bellhop", f"{child.name} did not stop within {STOP_S:.0f} s; killing it", loud=True)
            if child.process:
                _kill_group(child.process.pid)
        if waits:
            await asyncio.wait(waits)
        chosen_names = {child.name for child in chosen}
        ending = [task for task in self._tasks if task.get_name() in chosen_names]
        if ending:  # they print what the children said last
            await asyncio.wait(ending, timeout=2)

    async def close(self) -> None:
        """End the supervision; `stop` comes first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        """Kill everything at once."""
        for child in self._children:
            child.stopping = True
            if child.pid is not None:
                _kill_group(child.pid)


def server_child(server: EmbeddedPostgres | EmbeddedValkey, env: dict[str, str]) -> Child:
    """Return the child that runs an embedded server."""

    async def command() -> list[str]:
        await asyncio.to_thread(server.prepare)
        return server.command

    async def ready() -> bool:
        return await asyncio.to_thread(server.answers)

    return Child(server.name, command, ready, env, stop_signal=server.stop_signal)


def process_child(spec: ProcessSpec, env: dict[str, str], client: httpx.AsyncClient) -> Child:
    """Return the child that runs one of Bellhop's processes."""

    async def command() -> list[str]:
        for directory in spec.wiped:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        return launched(spec.command)

    async def answers(url: str) -> bool:
        try:
            return (await client.get(url)).status_code in {httpx.codes.OK, httpx.codes.UNAUTHORIZED}
        except httpx.HTTPError:
            return False

    return Child(
        spec.name,
        command,
        lambda: answers(spec.ready_url),
        {**env, **spec.env},
        watched=(lambda: answers(spec.metrics_url)) if spec.watched else None,
    )


async def _first_failure(tasks: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        if not task.cancelled():
            task.result()
    await asyncio.Event().wait()  # all ended as asked: never a failure


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
