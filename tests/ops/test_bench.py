"""The benchmark's bookkeeping, its table and its targets, with made-up figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ops.__main__ import app
from ops.bench.alone import MEASURED_BY
from ops.bench.facts import Facts, Measure, medians
from ops.bench.figures import Backlog, Figures, median_of
from ops.bench.node_peer import PeerUnavailableError, install
from ops.bench.recorder import InboxOrder, Recorder, percentile
from ops.bench.report import TARGETS, Comparison, Target, exit_status, table
from ops.bench.scenarios import ALONE, CHOICES, chosen, chosen_alone

if TYPE_CHECKING:
    from pathlib import Path

FIGURES = Figures(
    scenario="single",
    label="bellhop",
    run=1,
    users=10,
    n=100,
    per_request=1,
    in_flight=32,
    rate=None,
    priority="normal",
    connects_per_s=500.0,
    ingest_per_s=2_000.0,
    end_to_end_per_s=2_000.0,
    p50_ms=5.0,
    p95_ms=8.0,
    p99_ms=10.0,
    max_ms=12.0,
    lost=0,
    refused=0,
    duplicates=0,
    order_violations=0,
    dropped_sockets=0,
    statuses={"202": 100},
    restarted=[],
    cpu_us_per_notification=600.0,
    cpu_us_by_process={"api": 400.0, "worker": 200.0},
    client_cpu_us_per_notification=100.0,
)
NODE = replace(FIGURES, label="node", end_to_end_per_s=1_000.0, order_violations=None, cpu_us_per_notification=1_000.0)
_BACKLOG = Backlog(
    n=1_000,
    ingest_per_s=5_000.0,
    end_to_end_per_s=4_000.0,
    waiting_at_start=500,
    arrived_meanwhile=400,
    waiting_at_end=100,
    lost=0,
    refused=0,
    duplicates=0,
)
FACTS = Facts(
    scenario="storm",
    run=1,
    measures=(Measure("took_s", "until all are back, s", 20), Measure("tries", "attempts")),
    values={"took_s": 4.25, "tries": None},
    about={"clients": 10},
    faults={"lost": 0, "duplicated": 0},
)


def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
    assert percentile([], 0.5) is None


def test_every_number_ends_as_arrived_refused_or_lost() -> None:
    recorder = Recorder(5)
    recorder.sent(range(4), 10.0)
    recorder.arrived(0, 10.5)
    recorder.arrived(1, 10.25)
    recorder.refused([2])
    assert (recorder.sent_count, recorder.arrived_count, recorder.refused_count, recorder.waiting) == (4, 2, 1, 1)
    assert recorder.latencies() == [0.25, 0.5]
    assert recorder.duplicates == 0


def test_a_second_arrival_is_a_duplicate_and_so_is_one_that_nobody_sent() -> None:
    recorder = Recorder(1)
    recorder.sent([0], 1.0)
    recorder.arrived(0, 2.0)
    recorder.arrived(0, 3.0)
    recorder.arrived(1, 3.0)
    assert recorder.duplicates == 2
    assert recorder.latencies() == [1.0]


@pytest.mark.parametrize(
    ("frames", "violations"),
    [
        ([(6, 6, [6]), (7, 9, [7, 8, 9]), (10, 12, [12]), (13, 13, [])], 0),
        ([(7, 7, [7])], 1),
        ([(6, 6, [6]), (6, 6, [6])], 1),
        ([(6, 7, [7, 6])], 1),
        ([(6, 7, [6, 8])], 1),
        ([(6, 6, [6]), (8, 8, [8]), (7, 7, [7]), (8, 8, [8])], 2),
    ],
)
def test_frames_follow_each_other_without_a_gap(frames: list[tuple[int, int, list[int]]], violations: int) -> None:
    order = InboxOrder()
    order.starts_after(5)
    for frame in frames:
        order.frame(*frame)
    assert order.violations == violations


def test_a_frame_before_ready_breaks_the_order() -> None:
    order = InboxOrder()
    order.frame(1, 1, [1])
    assert order.violations == 1


def test_a_client_that_comes_back_goes_on_from_where_it_left_off() -> None:
    order = InboxOrder()
    order.starts_after(5)
    order.frame(6, 6, [6])
    order.starts_after(6)
    assert order.violations == 0
    order.starts_after(7)
    assert order.violations == 1


def test_what_goes_wrong_and_nothing_else_makes_the_status_1() -> None:
    slow = replace(FIGURES, p99_ms=10_000.0, end_to_end_per_s=1.0)
    assert exit_status([slow, replace(NODE, lost=5, duplicates=5)]) == 0
    for fault in ("lost", "duplicates", "order_violations", "refused", "dropped_sockets"):
        assert exit_status([FIGURES, replace(FIGURES, **{fault: 1})]) == 1
    assert exit_status([replace(FIGURES, restarted=["worker"])]) == 1
    assert exit_status([replace(FIGURES, backlog=replace(_BACKLOG, lost=1))]) == 1
    assert exit_status([replace(FIGURES, backlog=_BACKLOG)]) == 0
    assert exit_status([], [replace(FACTS, values={"took_s": 10_000.0})]) == 0
    assert exit_status([FIGURES], [FACTS, replace(FACTS, faults={"lost": 1})]) == 1


def test_several_runs_become_their_median_and_the_sum_of_their_faults() -> None:
    runs = [
        replace(FIGURES, p99_ms=30.0, lost=1, cpu_us_by_process={"api": 1.0}, backlog=_BACKLOG),
        replace(FIGURES, p99_ms=10.0, statuses={"202": 99, "503": 1}, backlog=replace(_BACKLOG, waiting_at_start=700)),
        replace(FIGURES, p99_ms=20.0, lost=2, cpu_us_by_process={"api": 3.0}, backlog=replace(_BACKLOG, lost=3)),
    ]
    median = median_of(runs)
    assert (median.p99_ms, median.lost) == (20.0, 3)
    assert median.statuses == {"202": 299, "503": 1}
    assert median.cpu_us_by_process == {"api": 3.0}
    assert median.backlog is not None
    assert (median.backlog.waiting_at_start, median.backlog.lost) == (500, 3)
    assert median_of([NODE]) == NODE
    assert median_of([replace(FIGURES, p99_ms=None)]).p99_ms is None


def test_targets_are_met_missed_or_not_measured() -> None:
    comparison = Comparison([FIGURES, NODE])
    fast = Target("single", "end_to_end_per_s", 2_000, at_least=True)
    assert comparison.judge(fast) == ("met", 2_000.0)
    assert comparison.judge(replace(fast, bound=2_001)) == ("missed", 2_000.0)
    assert comparison.judge(replace(fast, bound=2.0, of_peer=True)) == ("met", 2.0)
    assert comparison.judge(Target("single", "p99_ms", 9.9, at_least=False)) == ("missed", 10.0)
    assert comparison.judge(replace(fast, scenario="bulk")) == ("-", None)
    assert Comparison([FIGURES]).judge(replace(fast, of_peer=True)) == ("-", None)


def test_the_table_says_honestly_what_was_missed() -> None:
    under_load = replace(FIGURES, scenario="critical-behind-bulk", backlog=_BACKLOG)
    said = table([FIGURES, NODE, under_load, replace(FIGURES, scenario="steady", p99_ms=99.0, duplicates=2)])
    assert "2,000       1,000    2.00x" in said
    assert "met     single: notifications per s at least 1,600 (2,000)" in said
    assert "missed  steady: p99, ms at most 15 (99.00)" in said
    assert "missed  nothing lost, duplicated or out of order" in said
    assert "bellhop, steady, run 1: 2 duplicated" in said
    assert "while 500 of 1,000 low ones waited" in said
    assert "missed  nothing" not in table([FIGURES, replace(NODE, lost=1)])
    assert "0.1 of them" in table([FIGURES], scale=0.1)


def test_what_only_bellhop_is_put_to_has_its_own_rows_and_targets() -> None:
    said = table([], [FACTS, replace(FACTS, scenario="slow", values={"took_s": 21.0})])
    assert "until all are back, s                                       4.25" in said
    assert "attempts                                                       -" in said
    assert "met     storm: until all are back, s at most 20 (4.25)" in said
    assert "missed  slow: until all are back, s at most 20 (21.00)" in said
    assert "met     nothing lost" in said
    assert "single" not in said
    assert "bellhop, storm, run 1: 3 lost" in table([], [replace(FACTS, faults={"lost": 3})])


def test_facts_have_medians_and_add_up_what_went_wrong() -> None:
    runs = [
        replace(FACTS, values={"took_s": 1.0}),
        replace(FACTS, values={"took_s": 9.0}, faults={"lost": 2}),
        replace(FACTS, values={"took_s": 2.0}, faults={"lost": 1, "refused": 1}),
    ]
    (median,) = medians(runs)
    assert median.values == {"took_s": 2.0, "tries": None}
    assert median.found() == {"lost": 3, "refused": 1}


def test_the_line_of_facts_holds_every_measure() -> None:
    assert replace(FACTS, values={"took_s": 1.23456}, faults={"lost": 2, "refused": 0}).as_json() == {
        "scenario": "storm",
        "label": "bellhop",
        "run": 1,
        "took_s": 1.235,
        "tries": None,
        "about": {"clients": 10},
        "faults": {"lost": 2},
    }


def test_every_target_is_about_something_measured() -> None:
    measured = {scenario.name for scenarios in CHOICES.values() for scenario in scenarios}
    assert {target.scenario for target in TARGETS} <= measured


def test_scale_and_backlog_change_counts_only() -> None:
    single, idle, under_load = chosen(("single", "critical-behind-bulk"), backlog=50, scale=0.1)
    assert (single.count, idle.count, idle.backlog, under_load.backlog) == (1_000, 100, 0, 5)
    assert idle.rate == under_load.rate
    assert [scenario.name for scenario in chosen((), backlog=1, scale=1)] == [
        "single",
        "bulk",
        "steady",
        "brisk",
        "critical-idle",
        "critical-behind-bulk",
    ]


def test_what_bellhop_is_put_to_alone_must_be_asked_for() -> None:
    assert chosen_alone(()) == []
    assert chosen_alone(("storm", "single")) == ["storm"]
    assert chosen(("storm",), backlog=1, scale=1) == []
    assert chosen_alone(("all",)) == list(ALONE) == list(MEASURED_BY)
    assert len(chosen(("all",), backlog=1, scale=1)) == len(chosen((), backlog=1, scale=1))


def test_the_peer_needs_node_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerUnavailableError, match=r"Node\.js 20"):
        install(tmp_path / "cache")


def test_wrong_input_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLHOP_DATA_DIR", str(tmp_path / "data"))
    unknown = CliRunner().invoke(app, ["bench", "--only", "single,fast"])
    assert unknown.exit_code == 2
    assert "fast" in unknown.stderr
    for arguments, complaint in (
        (["--from", str(tmp_path)], "--from"),
        (["--from", __file__], "--chart"),
        (["--chart", str(tmp_path / "c.svg"), "--no-peer"], "nothing to draw"),
        (["--chart", str(tmp_path / "c.svg"), "--only", "storm"], "nothing to draw"),
        (["--dev-json", __file__, "--only", "storm"], "storm"),
        (["--dev-json", __file__, "--only", "rooms,nodes"], "nodes, rooms"),
    ):
        refused = CliRunner().invoke(app, ["bench", *arguments])
        assert refused.exit_code == 2
        assert complaint in refused.stderr
    (tmp_path / "dev.json").write_text("{")
    assert CliRunner().invoke(app, ["bench", "--no-peer", "--dev-json", str(tmp_path / "dev.json")]).exit_code == 1
