"""A dispatcher in a hurry waits for the nodes and for what is more urgent, but for nobody who does not answer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from models import redis_keys
from models.states import Priority
from workers import pace as module
from workers.pace import Pace

if TYPE_CHECKING:
    from workers.resources import Resources


def asked(pace: Pace, *nodes: str) -> str:
    """Publish a batch to nodes, with enough for each that it is to answer. Returns where."""
    where = {pace.answers_for(node, pace.limit) for node in nodes}
    pace.published(nodes)
    (answers,) = where
    assert answers
    return answers


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_S", 20.0)


@pytest.mark.usefixtures("_patient")
def test_with_two_messages_ahead_of_a_node_it_waits_for_its_answer(worker: Resources) -> None:
    pace = Pace(worker.redis, worker.bus, Priority.NORMAL, 500)
    answers = asked(pace, "a", "b")
    pace.rest(0)  # would last twenty seconds if it waited
    asked(pace, "a")
    rested = threading.Thread(target=pace.rest, args=(0,))
    rested.start()
    worker.redis.rpush(answers, "b")
    rested.join(0.3)
    assert rested.is_alive(), "another node's answer does not help"
    worker.redis.rpush(answers, "a")
    rested.join(10)
    assert not rested.is_alive()


def test_of_many_nodes_each_answers_for_half_a_batch_of_its_own(worker: Resources) -> None:
    pace = Pace(worker.redis, worker.bus, Priority.NORMAL, 500)
    for _ in range(3):
        answers = []
        for _ in range(4):
            answers.append(pace.answers_for("a", 63))
            pace.published(["a"])
        assert [bool(each) for each in answers] == [False, False, False, True]
    worker.redis.rpush(answers[-1], "a", "a")
    pace.rest(0)
    assert worker.redis.llen(answers[-1]) == 0, "the two answers too many were waited for"


def test_a_node_that_was_asked_and_is_gone_is_not_waited_for(worker: Resources) -> None:
    pace = Pace(worker.redis, worker.bus, Priority.NORMAL, 500)
    for _ in range(3):
        answers = pace.answers_for("gone", 500)
        pace.published([])
    worker.redis.rpush(answers, "other")
    pace.rest(0)
    assert worker.redis.llen(answers) == 1, "it waited"


def test_a_node_that_does_not_answer_is_waited_for_only_once(
    worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(worker.redis, worker.bus, Priority.NORMAL, 500)
    asked(pace, "silent")
    asked(pace, "silent")
    pace.rest(0)
    monkeypatch.setattr(module, "_ANSWER_S", 60.0)
    for _ in range(5):
        worker.redis.rpush(asked(pace, "silent", "good"), "good")
        pace.rest(0)  # a test that hangs here waits for the silent one


@pytest.mark.parametrize(
    ("mine", "others", "gives_way"),
    [
        (Priority.LOW, Priority.CRITICAL, True),
        (Priority.LOW, Priority.NORMAL, True),
        (Priority.NORMAL, Priority.HIGH, True),
        (Priority.NORMAL, Priority.LOW, False),
        (Priority.NORMAL, Priority.NORMAL, False),
        (Priority.CRITICAL, Priority.LOW, False),
    ],
)
def test_it_gives_way_to_what_is_more_urgent(
    mine: Priority, others: Priority, gives_way: bool, worker: Resources
) -> None:
    pace = Pace(worker.redis, worker.bus, mine, 500)
    alone = pace.limit
    worker.redis.set(redis_keys.hint_outstanding(others), 1)
    pace.rest(0)
    assert (pace.limit < alone) is gives_way
    worker.redis.delete(redis_keys.hint_outstanding(others))
    pace.rest(0)
    assert pace.limit == alone


def test_giving_way_takes_time_and_never_long(worker: Resources) -> None:
    pace = Pace(worker.redis, worker.bus, Priority.LOW, 500)
    worker.redis.set(redis_keys.hint_outstanding(Priority.CRITICAL), 1)
    began = time.monotonic()
    pace.rest(0.02)
    assert time.monotonic() - began >= 0.04
    began = time.monotonic()
    pace.rest(3_600)
    assert time.monotonic() - began < 60


def test_low_batches_are_small_and_no_batch_is_larger_than_the_setting(worker: Resources) -> None:
    low, normal = (Pace(worker.redis, worker.bus, each, 500) for each in (Priority.LOW, Priority.NORMAL))
    assert low.limit < normal.limit == 500
    pace = Pace(worker.redis, worker.bus, Priority.LOW, 7)
    worker.redis.set(redis_keys.hint_outstanding(Priority.CRITICAL), 1)
    assert pace.limit == 7
    pace.rest(0)
    assert pace.limit == 7


def test_without_redis_it_does_not_rest(worker: Resources) -> None:
    worker.redis.connection_pool.connection_kwargs["port"] = 1
    worker.redis.connection_pool.disconnect()
    pace = Pace(worker.redis, worker.bus, Priority.LOW, 500)
    asked(pace, "a")
    asked(pace, "a")
    limit = pace.limit
    pace.rest(0)
    assert pace.limit == limit
