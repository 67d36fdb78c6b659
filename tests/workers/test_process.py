"""A worker's metrics endpoint is also its sign of life."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ops.processes import BEAT, WORKER_CRITICAL
from workers import process

if TYPE_CHECKING:
    from models.settings import Settings

ROOT = Path(__file__).parents[2]


def ask(*heartbeats: float) -> tuple[list[str], Any]:
    process._last_heartbeat.clear()
    process._last_heartbeat.extend(heartbeats)
    statuses: list[str] = []
    answer = process._only_while_alive(lambda _, start: start("200 OK", []) or [b"metrics"])
    told = answer({}, lambda status, _: statuses.append(status))
    process._last_heartbeat.clear()
    return statuses, told


def test_it_answers_while_the_main_loop_moves() -> None:
    assert ask(time.monotonic()) == (["200 OK"], [b"metrics"])
    assert ask() == (["200 OK"], [b"metrics"]), "beat has no heartbeat"


def test_it_does_not_once_the_main_loop_stands_still() -> None:
    statuses, body = ask(time.monotonic() - 100)
    assert statuses == ["503 Service Unavailable"]
    assert b"100 s" in body[0]


@pytest.mark.parametrize("command", [WORKER_CRITICAL, BEAT])
def test_a_process_that_cannot_serve_metrics_ends_and_says_why(
    command: tuple[str, ...], settings: Settings, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            **os.environ,
            "BELLHOP_DATABASE_URL": settings.database_url,
            "BELLHOP_REDIS_URL": settings.redis_url,
            "BELLHOP_SECRET_KEY": settings.secret_key.get_secret_value(),
            "BELLHOP_METRICS_PORT": str(taken.getsockname()[1]),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, *command[1:]],
            check=False,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1, done.stderr
    assert "cannot serve metrics" in done.stderr
