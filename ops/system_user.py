"""Who runs Postgres when we are root, and how that user reaches the binaries and its data.

Postgres refuses to run as root. Its directory belongs to a system user and is closed to all others (0700); the
directories above keep their permissions wherever the kernel lets Postgres pass through them without opening them.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LAUNCH = Path(__file__).with_name("launch.py")
_CANDIDATES = ("postgres", "embedded_postgres", "nobody", "daemon")


class NoSystemUserError(Exception):
    """We are root, and there is no other user to run Postgres as."""


@dataclass(frozen=True, slots=True)
class SystemUser:
    """The user that owns and runs Postgres; `name` is "-" for whoever we are already."""

    name: str
    uid: int
    gid: int
    search: bool = False

    def own(self, path: Path) -> None:
        """Give a path, and all below it, to this user where it belongs to someone else."""
        if self.name == "-":
            return
        for each in (path, *path.rglob("*")):
            if each.lstat().st_uid != self.uid:
                os.chown(each, self.uid, self.gid, follow_symlinks=False)


def launched(
    command: list[str], *, user: SystemUser | None = None, death_signal: signal.Signals = signal.SIGTERM
) -> list[str]:
    """Return the command that starts `command` such that it ends with this process.

    The kernel counts the *thread* that starts it as the parent: start it from one that lives as long as it should.
    """
    name, search = (user.name, "search" if user.search else "-") if user else ("-", "-")
    return [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal)), name, search, *command]


def choose_user(binary: Path, data: Path) -> SystemUser:
    """Return who runs Postgres and can reach `binary` and `data`, which exists. Opens directories as a last resort."""
    if os.geteuid() != 0:
        return SystemUser("-", os.geteuid(), os.getegid())
    entry = _existing_owner(data) or _first_candidate()
    closed = _closed_directories(entry.pw_uid, entry.pw_gid, binary.parent, data.parent)
    if not closed:
        return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    user = SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid, search=True)
    if _starts(binary, user):
        return user
    for directory in closed:
        sys.stderr.write(f"bellhop: chmod o+x {directory}, for Postgres runs as the user {entry.pw_name}\n")
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IXOTH)
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _existing_owner(data: Path) -> pwd.struct_passwd | None:
    uid = data.stat().st_uid
    try:
        return pwd.getpwuid(uid) if uid != 0 else None
    except KeyError:
        return None


def _first_candidate() -> pwd.struct_passwd:
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry
    msg = "Postgres does not run as root and there is no user postgres or nobody; set BELLHOP_DATABASE_URL instead"
    raise NoSystemUserError(msg)


def _closed_directories(uid: int, gid: int, *leaves: Path) -> list[Path]:
    closed = []
    for leaf in leaves:
        for directory in (leaf.resolve(), *leaf.resolve().parents):
            found = directory.stat()
            bit = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
            if not found.st_mode & bit and directory not in closed:
                closed.append(directory)
    return closed


def _starts(binary: Path, user: SystemUser) -> bool:
    command = launched([str(binary), "--version"], user=user)
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0
