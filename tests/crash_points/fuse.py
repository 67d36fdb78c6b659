"""A crash that can happen once: a test arms it, one process lights it, dies, and leaves behind what it saw.

Arming makes a file and lighting renames it, so that of all processes exactly one dies, and the next one works normally.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path


class Fuse:
    """The crash at one step. Both sides make their own, from the same directory and name."""

    def __init__(self, directory: Path, name: str) -> None:
        self._armed = directory / f"{name}.armed"
        self._lit = directory / f"{name}.lit"
        self._fired = directory / f"{name}.fired"
        self._passed = 0

    # --- in the test -----------------------------------------------------------------------------------------

    def arm(self, *, passing: int = 0) -> None:
        """Crash at the step, after it was reached `passing` times without a crash."""
        for old in (self._lit, self._fired):
            old.unlink(missing_ok=True)
        written = self._armed.with_suffix(".new")
        written.write_text(str(passing))
        written.rename(self._armed)

    def disarm(self) -> None:
        """Crash no more, where it has not."""
        self._armed.unlink(missing_ok=True)

    @property
    def fired(self) -> dict[str, Any] | None:
        """What the process wrote when it died: its `pid`, its `parent`'s and the time `at`; None before."""
        return json.loads(self._fired.read_text()) if self._fired.exists() else None

    # --- in the process --------------------------------------------------------------------------------------

    def lit(self) -> bool:
        """Return whether the process is to die at this step, now."""
        try:
            passing = int(self._armed.read_text())
            if self._passed < passing:
                self._passed += 1
                return False
            self._armed.rename(self._lit)
        except FileNotFoundError:  # not armed, or another process was quicker
            return False
        return True

    def die(self, **seen: Any) -> NoReturn:
        """Write what was seen, and be gone."""
        self._lit.write_text(json.dumps({"pid": os.getpid(), "parent": os.getppid(), "at": time.time(), **seen}))
        self._lit.rename(self._fired)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")
