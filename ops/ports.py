"""Ports: finds free ones, and says which setting to change where one is taken."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRIES = 200
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_FROM = 32_768  # where the kernel does not say
_LOWEST, _FEWEST = 10_000, 5_000


class PortTakenError(Exception):
    """Another program listens where we want to; the text names the port and the setting."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on now."""
    return free_ports(1, host)[0]


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return `count` consecutive ports that nothing listens on now.

    Where possible they lie below those that the kernel gives to outgoing connections: one of these could take a port
    before its server has started.
    """
    end = _ephemeral_from() if _ephemeral_from() >= _LOWEST + _FEWEST else 2**16
    for _ in range(_TRIES):
        first = random.randrange(_LOWEST, end - count)  # noqa: S311  # keeps programs apart, hides nothing
        wanted = list(range(first, first + count))
        if all(is_free(host, port) for port in wanted):
            return wanted
    msg = f"no {count} free ports next to each other"
    raise PortTakenError(msg)


def _ephemeral_from() -> int:
    try:
        return int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _EPHEMERAL_FROM


def is_free(host: str, port: int) -> bool:
    """Say whether one could listen on the port now."""
    try:
        _bound(host, port).close()
    except OSError:
        return False
    return True


def require_free(host: str, wanted: Iterable[tuple[int, str]]) -> None:
    """Raise `PortTakenError` that names every taken port of the (port, setting) pairs."""
    taken = [
        f"port {port} on {host} is taken; set {setting} to another one, or stop what listens there"
        for port, setting in wanted
        if not is_free(host, port)
    ]
    if taken:
        raise PortTakenError("\n".join(taken))


def reachable_host(host: str) -> str:
    """Return the address under which this machine reaches a server bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)
    except BaseException:
        probe.close()
        raise
    return probe
