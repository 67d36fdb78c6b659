"""Files that hold secrets: only their owner may read them (0600), and a reader sees all of the old or the new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def write_private(path: Path, text: str) -> None:
    """Replace a file's content at once."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """Return the file's line; the first time, what `make` returns."""
    if not path.exists():
        write_private(path, make() + "\n")
    return path.read_text(encoding="utf-8").strip()


def make_data_dir(data_dir: Path) -> Path:
    """Make the data directory where it is missing and return it absolute. Git ignores what is in it."""
    data_dir = data_dir.expanduser().resolve()
    if not data_dir.exists():
        data_dir.mkdir(parents=True, mode=0o700)
        (data_dir / ".gitignore").write_text("*\n", encoding="utf-8")
    return data_dir
