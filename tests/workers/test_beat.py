"""Beat sends its messages whatever becomes of the clock."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from celery.beat import Scheduler, Service

from models.states import Queue
from workers.celery_app import make_celery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.settings import Settings
    from workers.resources import Resources

    Begin = Callable[[], Scheduler]

HOUR = timedelta(hours=1)
IN_TIME_S = 20.0  # of an hour


@pytest.fixture
def begin(settings: Settings, tmp_path: Path) -> Iterator[Begin]:
    """Return how a beat begins, or begins again with what it noted."""
    running: list[Scheduler] = []

    def start() -> Scheduler:
        while running:
            running.pop().close()
        app = make_celery(settings.model_copy(update={"sweep_interval_s": 0.1}))
        service = Service(app, schedule_filename=str(tmp_path / "schedule"), scheduler_cls=app.conf.beat_scheduler)
        running.append(service.scheduler)
        return running[-1]

    yield start
    while running:
        running.pop().close()


def sweeps(beat: Scheduler, worker: Resources) -> bool:
    """Let it run until it sends something; False where that takes too long."""
    worker.redis.delete(Queue.RECOVER)
    ends = time.monotonic() + IN_TIME_S
    while time.monotonic() < ends:
        time.sleep(max(beat.tick(), 0.0))
        if worker.redis.llen(Queue.RECOVER):
            return True
    return False


def shift(beat: Scheduler, by: timedelta) -> None:
    """Leave what a clock leaves that is set back: what was noted was noted at a time that is now to come."""
    for entry in beat.schedule.values():
        entry.last_run_at += by
    beat.populate_heap()


def test_a_clock_that_is_set_back_does_not_stop_it(begin: Begin, worker: Resources) -> None:
    beat = begin()
    assert sweeps(beat, worker)
    shift(beat, HOUR)
    assert sweeps(beat, worker)
    now = beat.app.now()
    assert all(entry.last_run_at <= now for entry in beat.schedule.values())


def test_nor_does_one_that_was_set_back_while_it_was_away(begin: Begin, worker: Resources) -> None:
    shift(begin(), HOUR)
    beat = begin()
    assert beat.schedule["sweep"].last_run_at > beat.app.now(), "it has noted that"
    assert sweeps(beat, worker)


def test_nor_does_one_that_is_set_forward(begin: Begin, worker: Resources) -> None:
    beat = begin()
    shift(beat, -HOUR)
    assert sweeps(beat, worker)
    assert sweeps(beat, worker)
