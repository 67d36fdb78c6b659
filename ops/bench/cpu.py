"""CPU time of a stack's process trees, by the name of each tree's root, and of the load generator itself.

Invariant: nothing counts twice, and nothing that ended is forgotten: when a child ends and is waited for, the kernel
adds its time to its parent's.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds between two moments, and which processes had another pid at the second one."""

    by_process: dict[str, float]
    client: float
    restarted: list[str]

    @property
    def total(self) -> float:
        """The whole stack's, without the load generator's."""
        return sum(self.by_process.values())


class CpuMeter:
    """Runs from its making on. `pids` is asked again at the end: a supervisor may have restarted something."""

    def __init__(self, pids: Callable[[], dict[str, int]]) -> None:
        self._pids = pids
        self._before = pids()
        self._used = {name: _tree_seconds(pid) for name, pid in self._before.items()}
        self._client = time.process_time()

    def read(self) -> Usage:
        """Return what was used since."""
        client = time.process_time() - self._client
        now = self._pids()
        restarted = sorted(name for name, pid in self._before.items() if now.get(name) != pid)
        by_process = {
            name: _tree_seconds(pid) - (0.0 if name in restarted else self._used.get(name, 0.0))
            for name, pid in now.items()
        }
        return Usage(by_process, client, restarted)


def _tree_seconds(pid: int) -> float:
    total = 0.0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total
