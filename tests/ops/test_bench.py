"""The benchmark: its bookkeeping with made-up arrivals, its load generator against a small server, and real runs."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import psycopg
import pytest
import socketio
from aiohttp import web
from typer.testing import CliRunner

from ops.__main__ import app
from ops.bench import Options, hot_room, load, open_files, rooms, storm, streams
from ops.bench.alone import MEASURED_BY
from ops.bench.chart import ChartError, Results, draw
from ops.bench.chart import read as read_results
from ops.bench.endpoint import Backstage, Endpoint, StackError, Wire
from ops.bench.facts import Facts, Measure, medians
from ops.bench.figures import Backlog, Figures, median_of
from ops.bench.fill import Depth, filler
from ops.bench.lab import Lab, backstage_of
from ops.bench.machine import header
from ops.bench.node_peer import PeerUnavailableError, install
from ops.bench.recorder import InboxOrder, Recorder, percentile
from ops.bench.report import TARGETS, Comparison, Target, exit_status, table
from ops.bench.scenarios import ALONE, CHOICES, Scenario, chosen, chosen_alone
from ops.bench.session import measure_all
from tests.stack import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
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
_FACTS = Facts(
    scenario="storm",
    run=1,
    measures=(Measure("took_s", "until all are back, s", 20), Measure("tries", "attempts")),
    values={"took_s": 4.25, "tries": None},
    about={"clients": 10},
    faults={"lost": 0, "duplicated": 0},
)
_HEADER = {
    "kind": "header",
    "at": "2026-01-02T03:04:05+00:00",
    "machine": {"cpu": "Abacus <3>", "cores": 7, "memory_gib": 11, "os": "Plan 9"},
    "versions": {"bellhop": "c0ffee0000", "python": "3.99", "postgres": "99.1", "valkey": "98.2", "node": "97.3"},
    "options": {"scale": 1.0, "users": 500},
}


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
    slow = replace(_FIGURES, p99_ms=10_000.0, end_to_end_per_s=1.0)
    assert exit_status([slow, replace(_NODE, lost=5, duplicates=5)]) == 0
    for fault in ("lost", "duplicates", "order_violations", "refused", "dropped_sockets"):
        assert exit_status([_FIGURES, replace(_FIGURES, **{fault: 1})]) == 1
    assert exit_status([replace(_FIGURES, restarted=["worker"])]) == 1
    assert exit_status([replace(_FIGURES, backlog=replace(_BACKLOG, lost=1))]) == 1
    assert exit_status([replace(_FIGURES, backlog=_BACKLOG)]) == 0
    assert exit_status([], [replace(_FACTS, values={"took_s": 10_000.0})]) == 0
    assert exit_status([_FIGURES], [_FACTS, replace(_FACTS, faults={"lost": 1})]) == 1


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
    under_load = replace(_FIGURES, scenario="critical-behind-bulk", backlog=_BACKLOG)
    said = table([_FIGURES, _NODE, under_load, replace(_FIGURES, scenario="steady", p99_ms=99.0, duplicates=2)])
    assert "2,000       1,000    2.00x" in said
    assert "met     single: notifications per s at least 1,600 (2,000)" in said
    assert "missed  steady: p99, ms at most 15 (99.00)" in said
    assert "missed  nothing lost, duplicated or out of order" in said
    assert "bellhop, steady, run 1: 2 duplicated" in said
    assert "while 500 of 1,000 low ones waited" in said
    assert "missed  nothing" not in table([_FIGURES, replace(_NODE, lost=1)])
    assert "0.1 of them" in table([_FIGURES], scale=0.1)


def test_what_only_bellhop_is_put_to_has_its_own_rows_and_targets() -> None:
    said = table([], [_FACTS, replace(_FACTS, scenario="slow", values={"took_s": 21.0})])
    assert "until all are back, s                                       4.25" in said
    assert "attempts                                                       -" in said
    assert "met     storm: until all are back, s at most 20 (4.25)" in said
    assert "missed  slow: until all are back, s at most 20 (21.00)" in said
    assert "met     nothing lost" in said
    assert "single" not in said
    assert "bellhop, storm, run 1: 3 lost" in table([], [replace(_FACTS, faults={"lost": 3})])


def test_facts_have_medians_and_add_up_what_went_wrong() -> None:
    runs = [
        replace(_FACTS, values={"took_s": 1.0}),
        replace(_FACTS, values={"took_s": 9.0}, faults={"lost": 2}),
        replace(_FACTS, values={"took_s": 2.0}, faults={"lost": 1, "refused": 1}),
    ]
    (median,) = medians(runs)
    assert median.values == {"took_s": 2.0, "tries": None}
    assert median.found() == {"lost": 3, "refused": 1}


def test_the_line_of_facts_holds_every_measure() -> None:
    assert replace(_FACTS, values={"took_s": 1.23456}, faults={"lost": 2, "refused": 0}).as_json() == {
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


@pytest.fixture
def backstage(database_url: str, redis_url: str) -> Backstage:
    return Backstage("http://127.0.0.1", database_url, redis_url, "default")


def _rows(backstage: Backstage, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(backstage.database_url) as connection:
        return connection.execute(statement).fetchall()


def test_a_filled_inbox_is_what_a_count_finds(backstage: Backstage) -> None:
    with filler(backstage) as tables:
        tables.inbox("deep", Depth(30, archived=5, read=20, seen=25))
        tables.history(3, users=4, prefix="old", progress=lambda _: None)
        tables.tidy()
        assert tables.deliveries("old") == (12, 12, 12)
    counted = _rows(
        backstage,
        """
        SELECT i.last_seq = count(*) AND i.last_seq = max(d.seq) AND min(d.seq) = 1 AND count(n.id) = count(*)
               AND i.unread = count(*) FILTER (WHERE d.read_at IS NULL AND d.archived_at IS NULL)
               AND i.unseen = count(*) FILTER (WHERE d.seen_at IS NULL AND d.archived_at IS NULL), i.unread
        FROM inbox i JOIN delivery d ON d.inbox_id = i.id
        LEFT JOIN notification n ON n.id = d.notification_id AND n.domain = d.domain AND n.type = d.type
        GROUP BY i.id ORDER BY i.unread
        """,
    )
    assert counted == [(True, 0)] * 4 + [(True, 10)]


def test_a_backlog_waits_in_order_with_its_notifications(backstage: Backstage) -> None:
    with filler(backstage) as tables:
        tables.backlog(7, users=3, prefix="u", stream="s")
        assert (tables.low_left(), tables.any_low_left()) == (7, True)
        waiting = _rows(
            backstage,
            """
            SELECT n.data->>'number', n.audience->>'user' FROM outbox o JOIN notification n ON n.id = o.notification_id
            WHERE o.priority = 3 AND n.priority = 3 AND o.due_at <= now() AND n.domain = 'bench' ORDER BY o.position
            """,
        )
        assert waiting == [(str(number), f"u{number % 3}") for number in range(7)]
        assert tables.drop_low() == 7
        assert not tables.any_low_left()


def test_what_postgres_says_against_it_is_the_stacks_failure(backstage: Backstage) -> None:
    with filler(backstage) as tables:
        tables.inbox("twice", Depth(1))
    with pytest.raises(StackError, match="inbox_user"), filler(backstage) as tables:
        tables.inbox("twice", Depth(1))


def test_the_header_names_the_machine_and_the_versions(backstage: Backstage) -> None:
    line = header(backstage, {"scale": 1.0})
    assert (line["kind"], line["options"], line["machine"]["cores"]) == ("header", {"scale": 1.0}, os.cpu_count())
    assert all(line["machine"].values())
    assert line["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert int(line["versions"]["postgres"].partition(".")[0]) >= 16
    json.dumps(line)


def test_a_machine_that_cannot_hold_the_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(256, 512)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])

    def refuse_more_than_allowed(_: int, wanted: tuple[int, int]) -> None:
        if wanted[1] > 512:
            raise ValueError
        limits.append(wanted)

    monkeypatch.setattr(resource, "setrlimit", refuse_more_than_allowed)
    with pytest.raises(StackError, match="may open 512 files"):
        open_files.allow_sockets(10_000)
    limits[:] = [(256, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.append(wanted))
    open_files.allow_sockets(1_000)
    assert limits[-1] == (1_500, resource.RLIM_INFINITY)
    with pytest.raises(StackError, match="ports for outgoing connections"):
        open_files.allow_sockets(70_000)


def _compared() -> list[dict[str, Any]]:
    return [
        _HEADER,
        {**_FIGURES.as_json(), "end_to_end_per_s": 1_234.0, "p99_ms": 45.6},
        {**_FIGURES.as_json(), "end_to_end_per_s": 1_434.0, "p99_ms": 45.6},
        {**_NODE.as_json(), "end_to_end_per_s": 678.0},
        _FACTS.as_json(),
    ]


def test_the_chart_shows_what_was_measured_and_where(tmp_path: Path) -> None:
    draw(_compared(), tmp_path / "one.svg")
    draw(_compared(), tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    texts = {element.text for element in ET.parse(tmp_path / "one.svg").iter() if element.text}  # noqa: S314  # our own
    assert {"1,334", "678", "45.6", "600", "Abacus <3>, 7 cores, 11 GiB, Plan 9"} <= texts
    assert "Bellhop c0ffee0000, Python 3.99, Postgres 99.1, Valkey 98.2, Node.js 97.3" in texts
    assert any(text.startswith("median of 2 runs, 500 users") and "2026-01-02" in text for text in texts)
    assert not any("steady" in text for text in texts)  # it was not measured


def test_what_is_missing_is_not_drawn(tmp_path: Path) -> None:
    _, *runs = _compared()
    with pytest.raises(ChartError, match="on which machine"):
        Results(runs)
    with pytest.raises(ChartError, match="put to both"):
        Results([_HEADER, _FIGURES.as_json()])
    with pytest.raises(ChartError, match="different machines"):
        Results([*_compared(), {**_HEADER, "versions": {"python": "2.7"}}])
    assert "0.5 of the full counts" in Results([{**_HEADER, "options": {"scale": 0.5, "users": 1}}, *runs]).about()
    (tmp_path / "broken.jsonl").write_text("{}\n[]\n")
    with pytest.raises(ChartError, match="line 2"):
        read_results(tmp_path / "broken.jsonl")
    with pytest.raises(ChartError, match="cannot be written"):
        draw(_compared(), tmp_path)


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
    monkeypatch.setattr(streams, "_PATIENCE_S", 0.2)
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


async def test_a_stack_that_is_known_from_outside_only_is_not_filled() -> None:
    async with _plain_server({}) as (endpoint, _):
        with pytest.raises(StackError, match="from outside only"):
            backstage_of(endpoint)


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


def test_a_chart_is_drawn_from_a_file_without_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, chart = tmp_path / "results.jsonl", tmp_path / "chart.svg"
    lines.write_text("".join(json.dumps(line) + "\n" for line in _compared()))
    arguments = ["bench", "--from", str(lines), "--chart", str(chart)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "1,334" in chart.read_text()
    lines.write_text("")
    assert CliRunner().invoke(app, arguments).exit_code == 1
    monkeypatch.setattr("ops.bench.find_spec", lambda _: None)
    without = CliRunner().invoke(app, arguments)
    assert without.exit_code == 1
    assert "matplotlib is not installed" in without.stderr


class _OneStack(Lab):
    """Measures everything on one stack that runs already, and warms it up once."""

    endpoint: Endpoint
    warm = False

    @contextmanager
    def stack(self, nodes: int = 1) -> Iterator[Endpoint]:
        assert nodes
        yield self.endpoint

    def warm_up(self, endpoint: Endpoint, users: int | None = None) -> None:
        if not self.warm:
            super().warm_up(endpoint, users)
        self.warm = True


def test_what_cannot_be_measured_does_not_keep_the_next_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Lab) -> Iterator[Facts]:
        raise StackError("no room for a storm")
        yield

    monkeypatch.setenv("BELLHOP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setitem(MEASURED_BY, "storm", broken)
    monkeypatch.setitem(MEASURED_BY, "growth", lambda _: iter([_FACTS, replace(_FACTS, run=2)]))
    assert measure_all(Options(only=("growth",))) == 0
    assert [json.loads(line)["run"] for line in capsys.readouterr().out.splitlines()] == [1, 2]
    assert measure_all(Options(only=("storm", "growth"))) == 1
    said = capsys.readouterr()
    assert "storm: no room for a storm" in said.err
    assert "met     storm: until all are back" in said.err
    assert len(said.out.splitlines()) == 2


def test_everything_that_bellhop_is_put_to_alone_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "_SETTLE_S", 0.1)
    for module in (load, rooms, hot_room):
        monkeypatch.setattr(module, "SETTLE_S", 0.1)
        monkeypatch.setattr(module, "AFTERWARDS_S", 0.1)
    began: list[Endpoint] = []
    lab = _OneStack(tmp_path, users=10, repeat=1, scale=0.001, began=began.append)
    with Lab.stack(lab, 3) as lab.endpoint:
        found = {facts.scenario: facts for name in ALONE for facts in MEASURED_BY[name](lab)}
    assert (began, len(lab.endpoint.socket_urls), list(tmp_path.iterdir())) == ([lab.endpoint], 3, [])
    assert list(found) == [
        "critical-under-load-same",
        "critical-under-load-others",
        "fan-out",
        "inbox-depth",
        "connections",
        "storm-at-once",
        "storm-jitter",
        "growth-users",
        "growth-rows",
        "nodes-2",
        "nodes-4",
        "nodes-8",
        "rooms-paced",
        "rooms-serial",
        "rooms-flood",
        "rooms-hot",
        "wording",
    ]
    for facts in found.values():
        assert facts.found() == {}
        assert {measure.key for measure in facts.measures} == facts.values.keys()
        json.dumps(facts.as_json())
    assert found["critical-under-load-same"].about["low"] == 500
    assert found["critical-under-load-others"].values["p99_ms"]
    assert (found["fan-out"].about["subscribers"], found["fan-out"].about["online"]) == (1_000, 2)
    assert found["inbox-depth"].about["deliveries"] == 100
    assert all(found["inbox-depth"].values.values())
    assert found["connections"].about["connections"] == 10
    assert found["storm-jitter"].about["posted_while_away"] == 20
    assert found["growth-users"].about["grown"]["users"] == 100
    assert found["growth-rows"].about["grown"]["old_deliveries"] == 10_000
    assert [found[f"nodes-{count}"].about["grown"]["nodes"] for count in (2, 4, 8)] == [2, 4, 8]
    assert [found[f"nodes-{count}"].measures[0].bound for count in (2, 4, 8)] == [None, None, 1.2]
    for pace, events in (("paced", 4), ("serial", 1), ("flood", 4)):
        facts = found[f"rooms-{pace}"]
        assert (facts.about["members"], facts.about["deliveries"]) == (10, 10 * events)
        assert facts.about["statuses"] == {"202": 10 + events}
    assert found["rooms-serial"].values["events_per_frame"] == 1.0
    assert found["rooms-hot"].about["statuses"] == {"202": 10}
    assert found["rooms-hot"].values["inbox_p99_ms"]
    assert found["wording"].about["grown"] == {"users": 10, "types": 1, "preferences": 10}
    assert [(each.key, each.bound) for each in found["wording"].measures if each.bound] == [("throughput_ratio", 0.8)]


def test_a_small_bench_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["--no-peer", "--scale", "0.01", "--users", "10", "--only", "single,critical-behind-bulk"]
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
    first, *others = map(json.loads, done.stdout.splitlines())
    assert (first["kind"], first["options"]["users"]) == ("header", 10)
    lines = {line["scenario"]: line for line in others}
    assert list(lines) == ["single", "critical-idle", "critical-behind-bulk"]
    for line in lines.values():
        assert line.keys() - {"backlog"} == _FIGURES.as_json().keys()
        assert (line["label"], line["users"], line["lost"], line["duplicates"]) == ("bellhop", 10, 0, 0)
        assert (line["order_violations"], line["dropped_sockets"], line["refused"]) == (0, 0, 0)
        assert set(line["statuses"]) <= {"202"}
        assert {"api", "worker", "socket", "postgres"} <= line["cpu_us_by_process"].keys()
    assert (lines["single"]["n"], lines["single"]["statuses"]) == (100, {"202": 100})
    assert lines["single"]["p50_ms"] <= lines["single"]["p99_ms"] <= lines["single"]["max_ms"]
    backlog = lines["critical-behind-bulk"]["backlog"]
    assert (backlog["n"], backlog["lost"]) == (1_000, 0)
    assert "nothing lost, duplicated or out of order" in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".gitignore"]
