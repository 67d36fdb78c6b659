"""What was measured where: the machine and the versions, as the first line of the results says it.

Nothing in it names the machine itself or whose it is.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import redis

from ops.bench.endpoint import StackError

if TYPE_CHECKING:
    from ops.bench.endpoint import Backstage

HEADER = "header"
_CHECKOUT = Path(__file__).resolve().parents[2]
_CPUS = Path("/proc/cpuinfo")
_ANSWER_S = 10


def header(backstage: Backstage, options: dict[str, Any]) -> dict[str, Any]:
    """Return the first line of a call's results. Raises `StackError`."""
    return {
        "kind": HEADER,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(backstage),
        "options": options,
    }


def machine() -> dict[str, Any]:
    """Return the processor, its cores, the memory and the system."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{_system()}, {platform.system()} {platform.release()}",
    }


def versions(backstage: Backstage) -> dict[str, Any]:
    """Return what ran. `commit` ends in + where the checkout holds more than that commit; null where there is none."""
    try:
        with psycopg.connect(backstage.database_url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        with redis.Redis.from_url(backstage.redis_url) as client:
            info: Any = client.info("server")
    except (psycopg.Error, redis.RedisError) as error:
        msg = f"the stack's servers do not say what they are: {error}"
        raise StackError(msg) from error
    return {
        "bellhop": _commit(),
        "python": platform.python_version(),
        "postgres": str(row[0]).split(maxsplit=1)[0] if row else None,
        "valkey" if "valkey_version" in info else "redis": info.get("valkey_version") or info["redis_version"],
        "node": _said_by("node", "--version").removeprefix("v") or None,
    }


def _commit() -> str | None:
    git = ("git", "-C", str(_CHECKOUT))
    commit = _said_by(*git, "rev-parse", "--short=10", "HEAD")
    return commit + "+" * bool(_said_by(*git, "status", "--porcelain")) if commit else None


def _said_by(*command: str) -> str:
    """Return what a program prints; nothing where it is not there or fails: the versions are then unknown."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_S)
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    if _CPUS.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", _CPUS.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
