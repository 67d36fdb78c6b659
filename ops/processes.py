"""The one list of Bellhop's processes: what to run, with which variables, and how to see that one is ready.

The development stack runs these; the compose file and the Render blueprint are compared with them by a test. A
command is written as deployments write it, with `python`; `ProcessSpec.command` puts this interpreter in its place.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.states import Queue
from ops.ports import free_ports, reachable_host

if TYPE_CHECKING:
    from pathlib import Path

    from models.settings import Settings

_CELERY = ("python", "-m", "celery", "-q", "-A", "workers.celery_app")
_QUIET = ("--without-gossip", "--without-mingle")
SHARED_QUEUES = (Queue.HIGH, Queue.NORMAL, Queue.LOW, Queue.RECOVER)
PROCESS_VARIABLES = ("BELLHOP_METRICS_PORT", "PROMETHEUS_MULTIPROC_DIR")  # one process's own, never inherited

API = ("python", "-m", "api")
SOCKET = ("python", "-m", "socket_server")
WORKER = (*_CELERY, "worker", "-Q", ",".join(SHARED_QUEUES), "-c", "4", "-n", "worker@%h", *_QUIET, "-l", "INFO")
WORKER_CRITICAL = (*_CELERY, "worker", "-Q", Queue.CRITICAL, "-c", "2", "-n", "critical@%h", *_QUIET, "-l", "INFO")
BEAT = (*_CELERY, "beat", "-l", "INFO")
FLOWER = (*_CELERY, "flower", "--max-tasks=2000")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. `ready_url` answers 200 once it can work; `wiped` directories are emptied before each start."""

    name: str
    argv: tuple[str, ...]
    metrics_url: str
    ready_url: str
    env: dict[str, str] = field(default_factory=dict)
    wiped: tuple[Path, ...] = ()
    watched: bool = False  # restarted when its metrics stop answering: it may hang rather than die

    @property
    def command(self) -> list[str]:
        """The command, run by this interpreter."""
        return [sys.executable, *self.argv[1:]] if self.argv[0] == "python" else list(self.argv)


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port of the stack's own processes."""

    api: int
    sockets: tuple[int, ...]
    flower: int
    metrics: dict[str, int]

    @classmethod
    def choose(cls, settings: Settings) -> Ports:
        """Take the settings' ports, and free ones where they say 0."""
        count = settings.socket_nodes
        first, *others = free_ports(count + 5, settings.host)
        first_socket = settings.socket_port or first
        api, flower, *metrics = others[count - 1 :]
        return cls(
            api=settings.api_port or api,
            sockets=tuple(range(first_socket, first_socket + count)),
            flower=settings.flower_port or flower,
            metrics=dict(zip(("worker", "worker-critical", "beat"), metrics, strict=True)),
        )

    def with_settings(self) -> list[tuple[int, str]]:
        """Return each port that a setting chose, with that setting."""
        sockets = [(port, "BELLHOP_SOCKET_PORT") for port in self.sockets]
        return [(self.api, "BELLHOP_API_PORT"), *sockets, (self.flower, "BELLHOP_FLOWER_PORT")]


def stack(settings: Settings, ports: Ports, data_dir: Path) -> list[ProcessSpec]:
    """Return the processes of one machine, in the order in which to show them."""
    host = reachable_host(settings.host)
    return [
        _served("api", API, f"http://{host}:{ports.api}", {"BELLHOP_API_PORT": str(ports.api)}),
        *(
            _served(
                "socket" if number == 1 else f"socket-{number}",
                SOCKET,
                f"http://{host}:{port}",
                {"BELLHOP_SOCKET_PORT": str(port)},
            )
            for number, port in enumerate(ports.sockets, 1)
        ),
        _celery("worker", WORKER, f"http://{host}", ports.metrics, data_dir),
        _celery("worker-critical", WORKER_CRITICAL, f"http://{host}", ports.metrics, data_dir),
        _beat(f"http://{host}:{ports.metrics['beat']}/metrics", ports.metrics["beat"], data_dir),
        _flower(settings, f"http://{host}:{ports.flower}", ports.flower),
    ]


def _served(name: str, argv: tuple[str, ...], url: str, env: dict[str, str]) -> ProcessSpec:
    return ProcessSpec(name, argv, metrics_url=f"{url}/metrics", ready_url=f"{url}/health/ready", env=env)


def _celery(name: str, argv: tuple[str, ...], host_url: str, ports: dict[str, int], data_dir: Path) -> ProcessSpec:
    directory = data_dir / "metrics" / name
    url = f"{host_url}:{ports[name]}/metrics"
    env = {"BELLHOP_METRICS_PORT": str(ports[name]), "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    return ProcessSpec(name, argv, url, url, env, wiped=(directory,), watched=True)


def _beat(url: str, port: int, data_dir: Path) -> ProcessSpec:
    argv = (*BEAT, "-s", str(data_dir / "beat-schedule"))
    return ProcessSpec("beat", argv, url, url, {"BELLHOP_METRICS_PORT": str(port)})


def _flower(settings: Settings, url: str, port: int) -> ProcessSpec:
    password = settings.flower_basic_auth.get_secret_value()
    argv = (*FLOWER, f"--address={settings.host}", f"--port={port}")
    # Flower reads FLOWER_BASIC_AUTH itself: as an option, the password would show in the list of processes.
    env = {"FLOWER_BASIC_AUTH": password} if password else {}
    return ProcessSpec("flower", argv, f"{url}/metrics", f"{url}/metrics", env)
