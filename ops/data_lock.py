"""One owner per data directory: a lock that the kernel releases when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DataDirLockedError(Exception):
    """Another process uses the data directory; the text names it."""


@contextmanager
def data_lock(data_dir: Path) -> Iterator[None]:
    """Hold the directory for the block. Raises `DataDirLockedError`."""
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            msg = (
                f"{data_dir} is in use by process {holder}, which runs Bellhop already; "
                "stop that one, or set BELLHOP_DATA_DIR to another directory"
            )
            raise DataDirLockedError(msg) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
