"""The whole engine as its user starts it, for tests that need real processes: `python -m ops up` in its own folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ops.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
START_S = 90


class Stack:
    """A running engine, as its dev.json describes it."""

    def __init__(self, process: subprocess.Popen[bytes], data_dir: Path, output: Path) -> None:
        self.process = process
        self._file = data_dir / "dev.json"
        self._output = output

    @property
    def dev(self) -> dict[str, Any]:
        """The file as it is now: process ids change when something is killed."""
        return json.loads(self._file.read_text())  # type: ignore[no-any-return]

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def kill(self, name: str) -> int:
        """Kill a process as the kernel would when memory runs out. Returns the id that it had."""
        pid = int(self.dev["pids"][name])
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for_another(self, name: str, pid: int) -> None:
        """Wait until `name` runs again."""
        self._wait(lambda: self.dev["pids"].get(name) not in (None, pid), f"{name} did not come back")

    def wait_until_ready(self) -> None:
        self._wait(self._ready, "the stack did not start")

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the stack ended with {self.process.returncode}:\n{self.output}")
        return self._file.exists() and "Bellhop is up" in self.output

    def _wait(self, condition: Any, complaint: str) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.05)
        pytest.fail(f"{complaint} within {START_S} s:\n{self.output[-5_000:]}")


@contextmanager
def running_stack(data_dir: Path, *, socket_nodes: int = 2, **settings: str) -> Iterator[Stack]:
    first = free_ports(2 + socket_nodes)[0]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BELLHOP_")},
        "BELLHOP_DATA_DIR": str(data_dir),
        "BELLHOP_API_PORT": str(first),
        "BELLHOP_FLOWER_PORT": str(first + 1),
        "BELLHOP_SOCKET_PORT": str(first + 2),
        "BELLHOP_SOCKET_NODES": str(socket_nodes),
        **settings,
    }
    output = data_dir.parent / f"{data_dir.name}.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops", "up"], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        stack = Stack(process, data_dir, output)
        try:
            stack.wait_until_ready()
            yield stack
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
