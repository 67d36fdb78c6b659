"""The engine's own processes, started by hand with crash points in them, on servers that live on.

A process that died stays dead until the test starts it again, so that a test sees what lies between.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis

from models import redis_keys
from models.keys import create_key
from models.states import Priority
from ops.processes import Ports, stack
from tests.conftest import SECRET
from tests.crash_points.fuse import Fuse
from tests.crash_points.points import PROGRAMS
from tests.socket_server.conftest import eventually
from tests.stack import START_S

if TYPE_CHECKING:
    from models.settings import Settings
    from ops.processes import ProcessSpec

ROOT = Path(__file__).parents[2]
PATIENCE_S = 40
_IN_HAND = "unacked"  # kombu's hash of the messages that workers have and have not acknowledged
_KILLED = "pid:{} exited with 'signal 9 (SIGKILL)'"  # as Celery says it
_STARTED = ("api", "socket", "socket-2", "worker", "beat")


class Process:
    """One process of the engine, which can be started more than once."""

    def __init__(self, spec: ProcessSpec, env: dict[str, str], directory: Path) -> None:
        self._spec = spec
        self._env = env
        self._directory = directory
        self._output = directory / f"{spec.name}.log"
        self._program = spec.name.removesuffix("-2")
        self._process: subprocess.Popen[bytes] | None = None
        self.victims: list[int] = []  # children that were killed

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def children(self) -> set[int]:
        """The processes that it forked and that live: one that died stays listed until somebody asks how."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(pid) for pid in listed if _lives(pid)}

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def metrics_url(self) -> str:
        return self._spec.metrics_url

    @property
    def url(self) -> str:
        return self._spec.ready_url.removesuffix("/health/ready")

    def fuse(self, point: str) -> Fuse:
        assert point in PROGRAMS[self._program], f"{self._program} has no crash point {point!r}"
        return Fuse(self._directory, point)

    @property
    def is_dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def disarm(self) -> None:
        for point in PROGRAMS.get(self._program, ()):
            self.fuse(point).disarm()

    def start(self) -> None:
        assert self._process is None or self._process.returncode is not None, f"{self._spec.name} still runs"
        for wiped in self._spec.wiped:
            wiped.mkdir(parents=True, exist_ok=True)
        program = self._spec.argv[2:]
        if self._program in PROGRAMS:
            program = ("tests.crash_points.launch", self._program, str(self._directory), *program)
        with self._output.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *program],
                cwd=ROOT,
                env=self._env | self._spec.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def wait_until_ready(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:

            async def answers() -> bool:
                assert self._process is not None
                if self._process.poll() is not None:
                    pytest.fail(f"{self._spec.name} ended with {self._process.returncode}:\n{self.output[-4_000:]}")
                try:
                    return (await client.get(self._spec.ready_url)).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, START_S)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def killed(self, point: str) -> dict[str, Any]:
        """Wait until the process was killed at `point`. Returns what it saw there."""
        process, seen = self._process, await self._fired(point)
        assert process is not None
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == -signal.SIGKILL, self.output[-4_000:]
        assert seen["pid"] == process.pid
        return seen

    async def child_killed(self, point: str) -> dict[str, Any]:
        """Wait until one of its children was killed at `point`. Returns what it saw there.

        Any child will do: one that replaces an earlier victim may be the one that is at work.
        """
        seen = await self._fired(point)
        assert seen["parent"] == self.pid
        await eventually(lambda: seen["pid"] not in self.children, PATIENCE_S)
        self.victims.append(seen["pid"])
        return seen

    async def replaced_its_victims(self, how_many: int) -> None:
        """Wait until it has as many children as before, and knows that the others were killed; Celery takes seconds."""
        await eventually(lambda: len(self.children) == how_many, PATIENCE_S)
        await eventually(lambda: all(_KILLED.format(pid) in self.output for pid in self.victims), PATIENCE_S)

    async def _fired(self, point: str) -> dict[str, Any]:
        fuse = self.fuse(point)
        await eventually(lambda: fuse.fired, PATIENCE_S)
        assert fuse.fired is not None
        return fuse.fired

    def stop(self) -> None:
        """End it for good."""
        if self._process is None or self.is_dead:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


class Engine:
    """An API, two socket nodes, a worker and beat."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self._key = create_key(settings.database_url, tenant="default", scopes=["admin"], name="crash")[1]
        env = {name: value for name, value in os.environ.items() if not name.startswith("BELLHOP_")} | {
            "BELLHOP_DATA_DIR": str(directory),
            "BELLHOP_DATABASE_URL": settings.database_url,
            "BELLHOP_REDIS_URL": settings.redis_url,
            "BELLHOP_SECRET_KEY": SECRET,
            "BELLHOP_HEAD_CHECK_INTERVAL_S": str(settings.head_check_interval_s),
            "BELLHOP_DISPATCH_BATCH": str(settings.dispatch_batch),
            "BELLHOP_TRIM_INTERVAL_S": str(settings.trim_interval_s),
            "BELLHOP_RETENTION_ROUND_S": str(settings.retention_round_s),
            "BELLHOP_INBOX_RETENTION": json.dumps(
                {pattern: kept.model_dump() for pattern, kept in settings.inbox_retention.items()}
            ),
        }
        specs = stack(settings, Ports.choose(settings), directory)
        self._processes = {
            spec.name: Process(spec, env, _made(directory / spec.name)) for spec in specs if spec.name in _STARTED
        }
        self.api = self._processes["api"]
        self.worker = self._processes["worker"]
        self.nodes = (self._processes["socket"], self._processes["socket-2"])

    async def start(self) -> None:
        for process in self._processes.values():
            process.start()
        await asyncio.gather(*(process.wait_until_ready() for process in self._processes.values()))

    def stop(self) -> None:
        for process in self._processes.values():
            process.stop()

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}"}

    async def restart(self, process: Process) -> None:
        process.start()
        await process.wait_until_ready()

    async def quiet(self) -> None:
        """Wait until no dispatcher is at work or on its way: what is committed from now on needs somebody to look."""
        flags = [redis_keys.hint_outstanding(priority) for priority in Priority]
        with redis.Redis.from_url(self.settings.redis_url) as client:
            await eventually(lambda: not client.exists(*flags, _IN_HAND), PATIENCE_S)

    async def heal(self) -> None:
        """Start what is dead, and disarm what did not go off: the next test finds everything running."""
        for process in self._processes.values():
            process.disarm()
            if process.is_dead:
                await self.restart(process)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
