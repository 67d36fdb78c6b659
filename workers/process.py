"""The life of worker processes: logging, metrics endpoint, and the connections of each forked child."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import structlog
from celery.signals import (
    beat_init,
    celeryd_after_setup,
    heartbeat_sent,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app, multiprocess

from models.garbage import spare_what_exists
from models.settings import load_settings
from models.telemetry import configure_logging, count_from_zero
from workers.resources import Resources

log = structlog.get_logger(__name__)

_STANDSTILL_S = 60.0  # heartbeats come every two seconds, and stop while Redis is away
_last_heartbeat: deque[float] = deque(maxlen=1)  # of a worker's main process; empty in beat


@cache
def resources() -> Resources:
    """Return this process's connections, built on first use: in a prefork child, after the fork."""
    return Resources.build(load_settings().require_servers())


@setup_logging.connect(weak=False)
def _configure_logging(**_: Any) -> None:  # noqa: ANN401  # Celery's signals send what they like
    configure_logging(load_settings(), "celery")


@celeryd_after_setup.connect(weak=False)
def _name_worker(sender: str, **_: Any) -> None:  # noqa: ANN401
    structlog.contextvars.bind_contextvars(process=sender.partition("@")[0])


@beat_init.connect(weak=False)
def _name_beat(**_: Any) -> None:  # noqa: ANN401
    structlog.contextvars.bind_contextvars(process="beat")


@worker_process_init.connect(weak=False)
def _after_fork(**_: Any) -> None:  # noqa: ANN401
    resources.cache_clear()
    count_from_zero()
    resources().connect()
    spare_what_exists()


@worker_process_shutdown.connect(weak=False)
def _before_exit(pid: int, **_: Any) -> None:  # noqa: ANN401
    resources().close()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


@heartbeat_sent.connect(weak=False)
def _note_heartbeat(**_: Any) -> None:  # noqa: ANN401
    _last_heartbeat.append(time.monotonic())


@worker_ready.connect(weak=False)
def _serve_metrics_of_worker(**_: Any) -> None:  # noqa: ANN401
    _note_heartbeat()
    _serve_metrics()


@beat_init.connect(weak=False)
def _serve_metrics_of_beat(**_: Any) -> None:  # noqa: ANN401
    _serve_metrics()


def _serve_metrics() -> None:
    settings = load_settings()
    if not settings.metrics_port:
        return
    registry = REGISTRY
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory and Path(directory).is_dir():
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    try:
        server = make_server(settings.host, settings.metrics_port, _only_while_alive(make_wsgi_app(registry)))
    except OSError as error:
        log.critical("cannot serve metrics; ending", port=settings.metrics_port, error=str(error))
        raise SystemExit(1) from error  # Celery would note another exception and go on, and nobody could watch it
    server.RequestHandlerClass.log_request = _say_nothing  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("serving metrics", port=settings.metrics_port)


def _only_while_alive(metrics: Any) -> Any:  # noqa: ANN401  # WSGI applications have no type at run time
    """Answer 503 once the worker's main loop stands still: a thread that answers proves nothing about it."""

    def answer(environ: Any, start_response: Any) -> Any:  # noqa: ANN401
        still_s = time.monotonic() - _last_heartbeat[-1] if _last_heartbeat else 0.0
        if still_s < _STANDSTILL_S:
            return metrics(environ, start_response)
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [f"the worker's main loop has stood still for {still_s:.0f} s".encode()]

    return answer


def _say_nothing(*_: object) -> None:
    """Stand in for a line of log for each scrape."""
