"""The life of worker processes: logging, metrics endpoint, and the connections of each forked child."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from celery.signals import (
    beat_init,
    celeryd_after_setup,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)
from prometheus_client import CollectorRegistry, multiprocess, start_http_server

from models.garbage import spare_what_exists
from models.settings import load_settings
from models.telemetry import configure_logging, count_from_zero
from workers.resources import Resources

log = structlog.get_logger(__name__)


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


@worker_ready.connect(weak=False)
@beat_init.connect(weak=False)
def _serve_metrics(**_: Any) -> None:  # noqa: ANN401
    settings = load_settings()
    if not settings.metrics_port:
        return
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory and Path(directory).is_dir():
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        start_http_server(settings.metrics_port, settings.host, registry)
    else:
        start_http_server(settings.metrics_port, settings.host)
    log.info("serving metrics", port=settings.metrics_port)
