"""The benchmark on a real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.bench import Options, hot_room, load, rooms, storm
from ops.bench.alone import MEASURED_BY
from ops.bench.endpoint import Endpoint, StackError
from ops.bench.lab import Lab
from ops.bench.scenarios import ALONE
from ops.bench.session import measure_all
from tests.ops.test_bench import FACTS, FIGURES
from tests.stack import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from ops.bench.facts import Facts


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
    monkeypatch.setitem(MEASURED_BY, "growth", lambda _: iter([FACTS, replace(FACTS, run=2)]))
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
        assert line.keys() - {"backlog"} == FIGURES.as_json().keys()
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
