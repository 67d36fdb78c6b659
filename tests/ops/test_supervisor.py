"""The supervisor with small programs in place of Bellhop's."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from ops import supervisor
from ops.log_lines import LogLines
from ops.supervisor import Child, StartError, Supervisor
from ops.system_user import launched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_SLEEPER = "print('here', flush=True); import time; time.sleep(600)"
_PARENT = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {_SLEEPER!r}]); import time; time.sleep(600)"
)
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


class _Stage:
    def __init__(self) -> None:
        self.out = io.StringIO()
        self.changed = asyncio.Event()
        self.supervisor = Supervisor(LogLines(self.out), self.changed.set)

    def child(
        self,
        code: str,
        ready: Callable[[], Awaitable[bool]] = _yes,
        watched: Callable[[], Awaitable[bool]] | None = None,
    ) -> Child:
        async def command() -> list[str]:
            return launched([sys.executable, "-c", code])

        return Child("child", command, ready, dict(os.environ), watched=watched)

    async def said(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text not in self.out.getvalue():  # noqa: ASYNC110  # another process speaks
                await asyncio.sleep(0.02)

    async def restarted(self, former: int) -> None:
        async with asyncio.timeout(20):
            while self.supervisor.pids.get("child", former) == former:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
async def stage() -> AsyncIterator[_Stage]:
    stage = _Stage()
    yield stage
    await stage.supervisor.stop()
    await stage.supervisor.close()
    assert stage.supervisor.pids == {}


async def test_a_child_that_dies_is_started_again(stage: _Stage) -> None:
    await stage.supervisor.start(stage.child(_SLEEPER))
    await stage.said("child           | here")
    former = stage.supervisor.pids["child"]
    stage.changed.clear()
    os.kill(former, signal.SIGKILL)
    await stage.changed.wait()
    await stage.restarted(former)
    await stage.said("was killed by SIGKILL")
    await stage.said("child is back")


async def test_nothing_of_a_dead_childs_group_stays(stage: _Stage) -> None:
    await stage.supervisor.start(stage.child(_PARENT))
    await stage.said("here")
    former = stage.supervisor.pids["child"]
    below = psutil.Process(former).children()
    assert below
    os.kill(former, signal.SIGKILL)
    gone, left = await asyncio.to_thread(psutil.wait_procs, below, 10)
    assert not left
    assert len(gone) == len(below)


async def test_a_child_that_never_gets_ready_fails_the_start(stage: _Stage) -> None:
    with pytest.raises(StartError, match="child ended with status 3"):
        await stage.supervisor.start(stage.child("raise SystemExit(3)", ready=_no))


async def test_a_child_that_takes_too_long_is_named(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "START_S", 0.3)
    with pytest.raises(StartError, match="child"):
        await stage.supervisor.start(stage.child(_SLEEPER, ready=_no))


async def test_a_child_that_ignores_the_signal_is_killed(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_S", 0.3)
    await stage.supervisor.start(stage.child(_DEAF))
    await stage.said("deaf")
    await stage.supervisor.stop()
    assert stage.supervisor.pids == {}
    await stage.said("did not stop within")


async def test_a_child_that_hangs_is_restarted_by_the_watchdog(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "WATCHDOG_S", 0.1)
    monkeypatch.setattr(supervisor, "_WATCH_INTERVAL_S", 0.05)
    await stage.supervisor.start(stage.child(_SLEEPER, watched=_no))
    former = stage.supervisor.pids["child"]
    await stage.restarted(former)
    await stage.said("gave no sign of life")


async def test_kill_ends_everything_at_once(stage: _Stage) -> None:
    await stage.supervisor.start(stage.child(_DEAF))
    stage.supervisor.kill()
    await stage.supervisor.stop()
    assert stage.supervisor.pids == {}
