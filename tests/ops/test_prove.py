"""The proof: its plan, its copies, what it looks for at the end, and what it reports, with made-up violations."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from models.states import ListStatus
from ops.__main__ import app
from ops.prove import Options, session
from ops.prove.alarm import ViolationError
from ops.prove.faults import Faults
from ops.prove.fresh import Fresh, copy_equals, counts_are_right, list_is_right
from ops.prove.leaks import Level, Measure, growth_mb, left_over
from ops.prove.plan import Kind, plan
from ops.prove.replica import Replica
from ops.prove.report import Figures, exit_status, table

if TYPE_CHECKING:
    from pathlib import Path


# --- the plan ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    kinds = list(Kind)
    assert plan(7, 90, kinds) == plan(7, 90, kinds)
    assert plan(7, 90, kinds) != plan(8, 90, kinds)


@pytest.mark.parametrize("seconds", [5, 20, 90, 600])
def test_nothing_happens_outside_the_time_and_only_what_was_asked_for(seconds: float) -> None:
    for seed in range(50):
        kinds = list(Kind)[seed % 8 :: 1 + seed % 3]
        faults = plan(seed, seconds, kinds)
        assert faults
        assert all(fault.at_s > 0 and fault.lasts_s >= 0 and fault.ends_s <= seconds for fault in faults)
        assert all(0 <= fault.draw < 1 for fault in faults)
        assert {fault.kind for fault in faults} <= set(kinds)


def test_every_kind_has_its_turn_and_sometimes_two_come_at_once() -> None:
    faults = plan(1, 90, list(Kind))
    assert {fault.kind for fault in faults} == set(Kind)
    together = [
        (first, second)
        for first, second in pairwise(faults)
        if second.at_s - first.at_s < 0.5 and first.kind is not second.kind
    ]
    assert together
    assert len(together) < len(faults) / 2


def test_whatever_can_be_planned_can_be_broken() -> None:
    assert set(Faults(SimpleNamespace(), SimpleNamespace(), print)._table) == set(Kind)  # type: ignore[arg-type]


# --- a local copy --------------------------------------------------------------------------------------------


def arrival(seq: int, **changes: Any) -> dict[str, Any]:
    item = {"seq": seq, "id": f"n{seq}", "seen_at": None, "read_at": None, "archived_at": None, **changes}
    return {"seq": seq, "kind": "arrival", "item": item}


def frame(first: int, last: int, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"from": first, "to": last, "entries": list(entries), "counts": {"unread": 0, "unseen": 0}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (frame(4, 4, arrival(4)), "a gap"),
        (frame(2, 2, arrival(2)), "again"),
        (frame(3, 4, arrival(4), arrival(3)), "holds the numbers"),
        (frame(3, 4, arrival(3), arrival(3)), "holds the numbers"),
        (frame(3, 3, arrival(4)), "holds the numbers"),
        (frame(3, 3, {"seq": 3, "kind": "change", "action": "eat", "seqs": [1], "at": "now"}), "does not know"),
    ],
)
def test_a_copy_takes_only_what_follows(wrong: dict[str, Any], said: str) -> None:
    copy = Replica()
    copy.apply(frame(1, 2, arrival(1), arrival(2)))
    with pytest.raises(ViolationError, match=said):
        copy.apply(wrong)
    assert copy.seq == 2


def test_a_copy_that_differs_in_anything_from_a_fresh_read_is_seen() -> None:
    copy = Replica()
    copy.apply(frame(1, 2, arrival(1), arrival(2)))
    copy.apply(frame(3, 3, {"seq": 3, "kind": "change", "action": "read", "seqs": [1], "at": "noon"}))
    counts = {"unread": 1, "unseen": 1}

    def fresh(**changes: Any) -> Fresh:
        read = Fresh()
        first = arrival(1, seen_at="noon", read_at="noon", **changes)["item"]
        assert read.add({"items": [arrival(2)["item"]], "counts": counts, "seq": 3, "next_before": 2}) == 2
        assert read.add({"items": [first], "counts": counts, "seq": 3, "next_before": None}) is None
        return read

    copy_equals("ada", copy, counts, fresh())
    with pytest.raises(ViolationError, match=r"differs .* in 1: id 'n1' / 'other'"):
        copy_equals("ada", copy, counts, fresh(id="other"))
    with pytest.raises(ViolationError, match="was told last"):
        copy_equals("ada", copy, {"unread": 2, "unseen": 1}, fresh())
    behind = fresh()
    behind.seq = 4
    with pytest.raises(ViolationError, match="holds 3; its inbox is at 4"):
        copy_equals("ada", copy, counts, behind)
    less = fresh()
    less.items.pop()
    with pytest.raises(ViolationError, match="in 1: only the copy has it"):
        copy_equals("ada", copy, counts, less)


def test_other_lists_and_counts_must_say_what_the_whole_inbox_says() -> None:
    fresh = Fresh()
    read, unread, archived = (arrival(seq, domain="shop")["item"] for seq in (1, 2, 3))
    read |= {"seen_at": "noon", "read_at": "noon"}
    archived["archived_at"] = "noon"
    counts = {"unread": 1, "unseen": 1}
    fresh.add({"items": [archived, unread, read], "counts": counts, "seq": 4, "next_before": None})
    right = {"active": [unread, read], "unread": [unread], "unseen": [unread], "archived": [archived]}
    for status, items in right.items():
        list_is_right("ada", ListStatus(status), fresh, {"items": items}, 100)
        with pytest.raises(ViolationError, match=f"the {status} list of ada"):
            list_is_right("ada", ListStatus(status), fresh, {"items": items[1:]}, 100)
    list_is_right("ada", ListStatus.ALL, fresh, {"items": [archived]}, 1)
    with pytest.raises(ViolationError, match="the all list of ada"):
        list_is_right("ada", ListStatus.ALL, fresh, {"items": [archived]}, 2)
    counts_are_right("ada", fresh, {**counts, "domains": {"shop": counts}})
    with pytest.raises(ViolationError, match="the counts of ada"):
        counts_are_right("ada", fresh, {**counts, "domains": {}})


# --- what is left over ---------------------------------------------------------------------------------------


def measured(**changes: int) -> Measure:
    level = {"clients": 0, "others": 20, "postgres": 2, "redis": 3, "processes": 1, **changes}
    return Measure({"socket": Level(**level)}, {("socket", 7, 1.0): 100 * 2**20}, sessions=level["postgres"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clients": 1}, "socket has 1 connections of clients, and may have 0"),
        ({"others": 29}, "socket has 29 descriptors, and may have 28"),
        ({"postgres": 9}, "socket has 9 connections to Postgres, and may have 8"),
        ({"redis": 36}, "connections to Redis"),
        ({"processes": 2}, "socket has 2 processes, and may have 1"),
        ({"processes": 0}, "0 processes instead of 1"),
    ],
)
def test_what_clients_left_behind_is_named(changes: dict[str, int], said: str) -> None:
    assert left_over(measured(), measured(), pool_size=8) == []
    assert said in "; ".join(left_over(measured(), measured(**changes), pool_size=8))


def test_sessions_that_belong_to_nobody_and_processes_that_are_gone_are_named() -> None:
    assert left_over(measured(), replace(measured(), sessions=9), pool_size=8) == [
        "Postgres has 9 sessions, and may have 8"
    ]
    assert left_over(measured(), replace(measured(), levels={}), pool_size=8)[0] == "socket does not run"


def test_memory_is_compared_only_of_what_lived_through_everything() -> None:
    later = replace(measured(), memory={("socket", 7, 1.0): 130 * 2**20, ("socket", 7, 2.0): 900 * 2**20})
    assert growth_mb(measured(), later) == {("socket", 7, 1.0): 30.0}


# --- the report and the command line -------------------------------------------------------------------------


def test_the_report_tells_of_what_was_seen_and_of_what_was_violated() -> None:
    good = Figures(1, 90.0, faults={"flushall": 2}, accepted=1_234, converged_s=3.5, memory_mb=20.0)
    bad = Figures(2, 90.0, faults={"flushall": 1}, violation="it is gone", complaints={"[error] oh": 3})
    assert exit_status([good]) == 0
    assert exit_status([good, bad]) == 1
    text = table([good])
    assert "every promise was kept" in text
    assert "longest time to converge: 3.5 s" in text
    text = table([good, bad])
    assert "flushall 3" in text
    assert "VIOLATED in seed 2: it is gone" in text
    assert "seed 2, 3 times in the log: [error] oh" in text
    assert "every promise" not in text


def test_complaints_are_what_bellhop_itself_calls_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "socket          | [error    ] a stream failed [socket_server.delivery] process=socket session=abc\n"
        "socket          | [error    ] a stream failed [socket_server.delivery] process=socket session=def\n"
        "worker          | [error    ] consumer: Cannot connect [celery.worker.consumer] process=worker\n"
        "bellhop         | worker ended with status 1; starting it again in 0.1 s\n"
        "bellhop         | worker was killed by SIGKILL; starting it again in 0.1 s\n"
        "bellhop         | socket-2 ended with status 0; starting it again in 0.1 s\n"
        "worker          | [warning  ] postgres is away [workers.tasks] process=worker\n"
    )
    assert session._complaints(log) == {
        "[error    ] a stream failed [socket_server.delivery] process=… session=…": 2,
        "worker ended with status …; starting it again in … s": 1,
    }


def test_the_command_that_replays_a_seed_is_complete() -> None:
    options = Options(seed=1, seconds=20, seeds=3, faults=("flushall", "kill-api"), users=10, devices=2, rate=50)
    assert options.replay(2) == (
        "python -m ops prove --seed 2 --seconds 20 --users 10 --devices 2 --rate 50 --faults flushall,kill-api --keep"
    )


def test_unknown_faults_are_named_beside_all_there_are() -> None:
    wrong = CliRunner().invoke(app, ["prove", "--faults", "flushall,kill-everything"], env={"COLUMNS": "500"})
    assert wrong.exit_code == 2
    assert "kill-everything" in wrong.stderr
    assert all(kind in wrong.stderr for kind in Kind)
