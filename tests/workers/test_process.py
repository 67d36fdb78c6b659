"""A worker's metrics endpoint is also its sign of life."""

from __future__ import annotations

import time
from typing import Any

from workers import process


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
