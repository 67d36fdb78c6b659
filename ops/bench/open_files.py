"""How many sockets this machine allows: raises our own limit, which the stacks that we start inherit."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from ops.bench.endpoint import StackError

_BESIDE_SOCKETS = 500  # files that a process of the stack, or this one, has open at most besides the measured sockets
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def allow_sockets(count: int) -> None:
    """Make room for `count` sockets in one process. Raises `StackError` that says what to change."""
    need = count + _BESIDE_SOCKETS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        with suppress(ValueError, OSError):  # only root may, and not everywhere
            resource.setrlimit(resource.RLIMIT_NOFILE, (need, need))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        wanted = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        if wanted < need:
            msg = f"this machine cannot: a process may open {hard:,} files (ulimit -Hn), and {need:,} are needed"
            raise StackError(msg)
    if _PORTS.exists():
        first, last = map(int, _PORTS.read_text(encoding="ascii").split())
        if last - first < count:
            msg = (
                f"this machine cannot: it has {last - first:,} ports for outgoing connections ({_PORTS}), not {count:,}"
            )
            raise StackError(msg)
