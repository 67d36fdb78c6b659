"""A crash that can happen once: a test arms it, one process lights it, dies, and leaves behind what it saw.

Arming makes a file and lighting renames it, so that of all processes exactly one dies, and the next one works normally.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path


class Fuse:
    """The crash at one step. Both sides make their own, from the same directory and name."""

    def __init__(self, directory: Path, name: str) -> None:
        self._armed = directory / f"{name}.armed"
        self._lit = directory / f"{name}.lit"
        self._fired = directory / f"{name}.fired"
        self._passes = f"{name}.pass-"

    # --- in the test -----------------------------------------------------------------------------------------

    def arm(self, *, passing: int = 0) -> None:
        """Crash at the step, after it was reached `passing` times, by whichever processes, without a crash."""
        for old in (self._lit, self._fired, *self._left_to_pass()):
            old.unlink(missing_ok=True)
        for nth in range(passing):
            self._armed.with_name(f"{self._passes}{nth}").touch()
        self._armed.touch()

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
        if not self._armed.exists():
            return False
        for each in self._left_to_pass():
            with suppress(FileNotFoundError):  # another process was quicker
                each.unlink()
                return False
        try:
            self._armed.rename(self._lit)
        except FileNotFoundError:
            return False
        return True

    def _left_to_pass(self) -> list[Path]:
        return list(self._armed.parent.glob(f"{self._passes}*"))

    def die(self, **seen: Any) -> NoReturn:
        """Write what was seen, and be gone."""
        self._lit.write_text(json.dumps({"pid": os.getpid(), "parent": os.getppid(), "at": time.time(), **seen}))
        self._lit.rename(self._fired)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")
