"""What the supervisor prints: each child's lines behind its name, coloured on a terminal only."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import asyncio

_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_WIDTH = 15
LINE_LIMIT = 1024 * 1024


class LogLines:
    """Writes whole lines to one stream; a closed stream never stops the supervisor."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._coloured = self._out.isatty() and not os.environ.get("NO_COLOR")
        self._numbers: dict[str, int] = {}

    def say(self, name: str, line: str, *, loud: bool = False) -> None:
        """Print one line of a process; `loud` ones stand out."""
        number = self._numbers.setdefault(name, len(self._numbers))
        label = f"{name:<{_WIDTH}} |"
        if self._coloured:
            label = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{label}\x1b[0m"
            line = f"\x1b[1;31m{line}\x1b[0m" if loud else line
        self._write(f"{label} {line}\n")

    def block(self, text: str) -> None:
        """Print text as it is."""
        self._write(text.rstrip("\n") + "\n")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # nobody reads any more
            self._out.write(text)
            self._out.flush()

    async def follow(self, name: str, stream: asyncio.StreamReader) -> None:
        """Print a child's lines until it closes its output."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the reader's limit: the rest follows as further lines
                continue
            if not line:
                return
            self.say(name, line.decode(errors="replace").rstrip())
