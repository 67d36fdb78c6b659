"""The benchmark: its bookkeeping with made-up arrivals, its load generator against a small server, and a real run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import socketio
from aiohttp import web
from typer.testing import CliRunner

from ops.__main__ import app
from ops.bench import load
from ops.bench.endpoint import Endpoint, StackError, Wire
from ops.bench.figures import Backlog, Figures, median_of
from ops.bench.node_peer import PeerUnavailableError, install
from ops.bench.recorder import InboxOrder, Recorder, percentile
from ops.bench.report import TARGETS, Comparison, Target, exit_status, table
from ops.bench.scenarios import CHOICES, Scenario, chosen
from tests.stack import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_FIGURES = Figures(
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
_NODE = replace(
    _FIGURES, label="node", end_to_end_per_s=1_000.0, order_violations=None, cpu_us_per_notification=1_000.0
)
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


def test_what_goes_wrong_and_nothing_else_makes_the_status_1() -> None:
    slow = replace(_FIGURES, p99_ms=10_000.0, end_to_end_per_s=1.0)
    assert exit_status([slow, replace(_NODE, lost=5, duplicates=5)]) == 0
    for fault in ("lost", "duplicates", "order_violations", "refused", "dropped_sockets"):
        assert exit_status([_FIGURES, replace(_FIGURES, **{fault: 1})]) == 1
    assert exit_status([replace(_FIGURES, restarted=["worker"])]) == 1
    assert exit_status([replace(_FIGURES, backlog=replace(_BACKLOG, lost=1))]) == 1
    assert exit_status([replace(_FIGURES, backlog=_BACKLOG)]) == 0


def test_several_runs_become_their_median_and_the_sum_of_their_faults() -> None:
    runs = [
        replace(_FIGURES, p99_ms=30.0, lost=1, cpu_us_by_process={"api": 1.0}, backlog=_BACKLOG),
        replace(_FIGURES, p99_ms=10.0, statuses={"202": 99, "503": 1}, backlog=replace(_BACKLOG, waiting_at_start=700)),
        replace(_FIGURES, p99_ms=20.0, lost=2, cpu_us_by_process={"api": 3.0}, backlog=replace(_BACKLOG, lost=3)),
    ]
    median = median_of(runs)
    assert (median.p99_ms, median.lost) == (20.0, 3)
    assert median.statuses == {"202": 299, "503": 1}
    assert median.cpu_us_by_process == {"api": 3.0}
    assert median.backlog is not None
    assert (median.backlog.waiting_at_start, median.backlog.lost) == (500, 3)
    assert median_of([_NODE]) == _NODE
    assert median_of([replace(_FIGURES, p99_ms=None)]).p99_ms is None


def test_targets_are_met_missed_or_not_measured() -> None:
    comparison = Comparison([_FIGURES, _NODE])
    fast = Target("single", "end_to_end_per_s", 2_000, at_least=True)
    assert comparison.judge(fast) == ("met", 2_000.0)
    assert comparison.judge(replace(fast, bound=2_001)) == ("missed", 2_000.0)
    assert comparison.judge(replace(fast, bound=2.0, of_peer=True)) == ("met", 2.0)
    assert comparison.judge(Target("single", "p99_ms", 9.9, at_least=False)) == ("missed", 10.0)
    assert comparison.judge(replace(fast, scenario="bulk")) == ("-", None)
    assert Comparison([_FIGURES]).judge(replace(fast, of_peer=True)) == ("-", None)


def test_the_table_says_honestly_what_was_missed() -> None:
    under_load = replace(_FIGURES, scenario="critical-under-load", backlog=_BACKLOG)
    said = table([_FIGURES, _NODE, under_load, replace(_FIGURES, scenario="steady", p99_ms=99.0, duplicates=2)])
    assert "2,000       1,000    2.00x" in said
    assert "met     single: notifications per s at least 1,600 (2,000)" in said
    assert "missed  steady: p99, ms at most 15 (99.00)" in said
    assert "missed  nothing lost, duplicated or out of order" in said
    assert "bellhop, steady, run 1: 2 duplicated" in said
    assert "while 500 of 1,000 low ones waited" in said
    assert "missed  nothing" not in table([_FIGURES, replace(_NODE, lost=1)])
    assert "0.1 of them" in table([_FIGURES], scale=0.1)


def test_every_target_is_about_something_measured() -> None:
    measured = {scenario.name for scenarios in CHOICES.values() for scenario in scenarios}
    assert {target.scenario for target in TARGETS} <= measured


def test_scale_and_backlog_change_counts_only() -> None:
    single, idle, under_load = chosen(("single", "critical-under-load"), backlog=50, scale=0.1)
    assert (single.count, idle.count, idle.backlog, under_load.backlog) == (1_000, 100, 0, 5)
    assert idle.rate == under_load.rate
    assert [scenario.name for scenario in chosen((), backlog=1, scale=1)] == [
        "single",
        "bulk",
        "steady",
        "brisk",
        "critical-idle",
        "critical-under-load",
    ]


@asynccontextmanager
async def _plain_server(treated: dict[int, str]) -> AsyncIterator[tuple[Endpoint, list[Any]]]:
    """A Socket.IO server that emits what is posted, except for the numbers in `treated`: `lose`, `double`, `refuse`."""
    server, called_back = socketio.AsyncServer(async_mode="aiohttp"), []
    application = web.Application()
    server.attach(application)

    @server.event
    async def connect(sid: str, _environ: Any, auth: dict[str, str]) -> None:
        if auth["token"] == "token of nobody0":
            raise socketio.exceptions.ConnectionRefusedError("nobody")
        await server.enter_room(sid, auth["token"].removeprefix("token of "))

    async def post(request: web.Request) -> web.Response:
        body = await request.json()
        for item in body.get("notifications", [body]):
            treatment = treated.get(item["data"]["number"], "")
            if treatment == "refuse":
                return web.Response(status=503)
            for _ in range({"lose": 0, "double": 2}.get(treatment, 1)):
                sid = next(iter(server.manager.get_participants("/", item["user"])))[0]
                await server.emit("notification", item, to=sid, callback=lambda *_: called_back.append(1))
        return web.json_response({}, status=202)

    application.router.add_post("/post", post)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    try:
        yield (
            Endpoint(
                label="plain",
                wire=Wire.PLAIN,
                single_url=f"{url}/post",
                bulk_url=f"{url}/post",
                socket_urls=(url,),
                headers={},
                token_of=lambda user: f"token of {user}",
                recipient=lambda user: {"user": user},
                pids=lambda: {"all": os.getpid()},
            ),
            called_back,
        )
    finally:
        await server.shutdown()
        await runner.cleanup()


async def test_a_plain_server_is_measured_and_its_callbacks_are_answered() -> None:
    async with _plain_server({}) as (endpoint, called_back):
        figures = await load.measure(endpoint, Scenario("single", 30), users=3, prefix="u")
    assert figures.faults() == {}
    assert (figures.n, figures.users, figures.statuses, figures.order_violations) == (30, 3, {"202": 30}, None)
    assert figures.p50_ms
    assert len(called_back) == 30


async def test_losses_doubles_and_refusals_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_PATIENCE_S", 0.2)
    async with _plain_server({1: "lose", 7: "double", 10: "refuse"}) as (endpoint, _):
        scenario = Scenario("bulk", 20, per_request=5, in_flight=2, rate=1_000)
        figures = await load.measure(endpoint, scenario, users=2, prefix="u")
    assert figures.faults() == {"lost": 1, "refused": 5, "duplicated": 1}
    assert figures.statuses == {"202": 3, "503": 1}


async def test_a_backlog_waits_beside_the_measured_stream() -> None:
    async with _plain_server({}) as (endpoint, _):
        figures = await load.measure(endpoint, Scenario("critical", 5, backlog=20), users=2, prefix="u")
    assert figures.backlog is not None
    assert (figures.backlog.n, figures.backlog.lost) == (20, 0)
    assert figures.faults() == {}


async def test_a_refused_socket_is_the_stacks_failure() -> None:
    async with _plain_server({}) as (endpoint, _):
        with pytest.raises(StackError, match="refused a socket"):
            await load.measure(endpoint, Scenario("single", 1), users=1, prefix="nobody")
    await asyncio.sleep(0)


async def test_a_stack_that_does_not_answer_is_said() -> None:
    async with _plain_server({}) as (endpoint, _):
        pass
    with pytest.raises(StackError, match="0 could connect"):
        await load.measure(endpoint, Scenario("single", 1), users=1, prefix="u")


def test_the_peer_needs_node_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerUnavailableError, match=r"Node\.js 20"):
        install(tmp_path / "cache")


def test_wrong_input_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLHOP_DATA_DIR", str(tmp_path / "data"))
    unknown = CliRunner().invoke(app, ["bench", "--only", "single,fast"])
    assert unknown.exit_code == 2
    assert "fast" in unknown.stderr
    (tmp_path / "dev.json").write_text("{")
    assert CliRunner().invoke(app, ["bench", "--no-peer", "--dev-json", str(tmp_path / "dev.json")]).exit_code == 1


def test_a_small_bench_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["--no-peer", "--scale", "0.01", "--users", "10", "--only", "single,critical-under-load"]
    done = subprocess.run(
        [sys.executable, "-m", "ops", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "BELLHOP_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = {line["scenario"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(lines) == ["single", "critical-idle", "critical-under-load"]
    for line in lines.values():
        assert line.keys() - {"backlog"} == _FIGURES.as_json().keys()
        assert (line["label"], line["users"], line["lost"], line["duplicates"]) == ("bellhop", 10, 0, 0)
        assert (line["order_violations"], line["dropped_sockets"], line["refused"]) == (0, 0, 0)
        assert set(line["statuses"]) <= {"202"}
        assert {"api", "worker", "socket", "postgres"} <= line["cpu_us_by_process"].keys()
    assert (lines["single"]["n"], lines["single"]["statuses"]) == (100, {"202": 100})
    assert lines["single"]["p50_ms"] <= lines["single"]["p99_ms"] <= lines["single"]["max_ms"]
    assert (lines["critical-under-load"]["backlog"]["n"], lines["critical-under-load"]["backlog"]["lost"]) == (1_000, 0)
    assert "nothing lost, duplicated or out of order" in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".gitignore"]
