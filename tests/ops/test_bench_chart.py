"""The benchmark's chart, with made-up results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from ops.__main__ import app
from ops.bench.chart import ChartError, Results, draw
from ops.bench.chart import read as read_results
from tests.ops.test_bench import FACTS, FIGURES, NODE

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = {
    "kind": "header",
    "at": "2026-01-02T03:04:05+00:00",
    "machine": {"cpu": "Abacus <3>", "cores": 7, "memory_gib": 11, "os": "Plan 9"},
    "versions": {"bellhop": "c0ffee0000", "python": "3.99", "postgres": "99.1", "valkey": "98.2", "node": "97.3"},
    "options": {"scale": 1.0, "users": 500},
}


def _compared() -> list[dict[str, Any]]:
    return [
        _HEADER,
        {**FIGURES.as_json(), "end_to_end_per_s": 1_234.0, "p99_ms": 45.6},
        {**FIGURES.as_json(), "end_to_end_per_s": 1_434.0, "p99_ms": 45.6},
        {**NODE.as_json(), "end_to_end_per_s": 678.0},
        FACTS.as_json(),
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
        Results([_HEADER, FIGURES.as_json()])
    with pytest.raises(ChartError, match="different machines"):
        Results([*_compared(), {**_HEADER, "versions": {"python": "2.7"}}])
    assert "0.5 of the full counts" in Results([{**_HEADER, "options": {"scale": 0.5, "users": 1}}, *runs]).about()
    (tmp_path / "broken.jsonl").write_text("{}\n[]\n")
    with pytest.raises(ChartError, match="line 2"):
        read_results(tmp_path / "broken.jsonl")
    with pytest.raises(ChartError, match="cannot be written"):
        draw(_compared(), tmp_path)


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
