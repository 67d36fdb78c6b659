"""Draws the comparison with the Node peer from lines of results, as an SVG. Nothing in it comes from anywhere else.

The same lines give the same bytes. The background is transparent, and every colour is readable on light and on dark.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from ops.bench.facts import OURS
from ops.bench.machine import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

PEER = "node"
_NAMES = {OURS: "Bellhop", PEER: "Node.js: Express, BullMQ, Socket.IO"}
_COLOURS = {OURS: "#2f81f7", PEER: "#8c8c8c"}
_TEXT = "#7a7a7a"
_ROWS = {
    "single": "single\none per request",
    "bulk": "bulk\n100 per request",
    "steady": "steady\n200 per second",
    "brisk": "brisk\n1,000 per second",
}
_COLUMNS = {
    "end_to_end_per_s": "notifications per s\nmore is better",
    "p99_ms": "p99 from POST to socket, ms\nless is better",
    "cpu_us_per_notification": "CPU each, µs\nless is better",
}
_INCHES = (10.0, 6.2)
_BAR, _ROOM = 0.36, 1.45  # a bar's height, and how far a cell goes beyond its longest one
_SAME = ("machine", "versions")  # what every run in one chart must share


class ChartError(Exception):
    """The results cannot be drawn; the text says why."""


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of results. Raises `ChartError`."""
    lines = []
    try:
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            line = json.loads(text)
            if not isinstance(line, dict):
                msg = f"{file}, line {number}: not an object"
                raise ChartError(msg)
            lines.append(line)
    except (OSError, ValueError) as error:
        msg = f"{file} does not hold lines of results: {error}"
        raise ChartError(msg) from error
    return lines


class Results:
    """What the lines say that is drawn: medians by scenario, figure and stack, and where they were measured."""

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        """Raise `ChartError` where they say too little, or were not measured in the same place with the same code."""
        headers, values = [], dict[tuple[str, str, str], list[float]]()
        for line in lines:
            if line.get("kind") == HEADER:
                headers.append(line)
            elif line.get("scenario") in _ROWS:
                for metric in _COLUMNS:
                    if (value := line.get(metric)) is not None:
                        values.setdefault((line["scenario"], metric, line["label"]), []).append(value)
        if not headers:
            raise ChartError("no line says on which machine this was measured")
        if any(header[name] != headers[0][name] for header in headers for name in _SAME):
            raise ChartError("these runs were measured on different machines or with different versions")
        self.header = headers[0]
        self.runs = max(map(len, values.values()), default=0)
        self._medians = {key: statistics.median(each) for key, each in values.items()}
        self.scenarios = [name for name in _ROWS if all(self.of(name, "p99_ms", label) for label in _NAMES)]
        if not self.scenarios:
            raise ChartError("no scenario was put to both stacks")

    def of(self, scenario: str, metric: str, label: str) -> float | None:
        """Return a median, where there is one."""
        return self._medians.get((scenario, metric, label))

    def about(self) -> str:
        """Return where and with what this was measured."""
        machine, versions, options = (self.header[name] for name in (*_SAME, "options"))
        known = {name: version for name, version in versions.items() if version}
        scale = "" if options["scale"] == 1 else f" of {options['scale']:g} of the full counts"
        runs = f"median of {self.runs} runs" if self.runs > 1 else "one run"
        lines = (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['os']}",
            ", ".join(f"{_PROPER.get(name, name)} {version}" for name, version in known.items()),
            f"{runs}{scale}, {options['users']} users, all on this machine; {self.header['at'][:10]}",
        )
        return "\n".join(lines)


_PROPER = {
    "bellhop": "Bellhop",
    "python": "Python",
    "postgres": "Postgres",
    "valkey": "Valkey",
    "redis": "Redis",
    "node": "Node.js",
}


def draw(lines: Sequence[dict[str, Any]], file: Path) -> None:
    """Write the chart. Raises `ChartError`."""
    results = Results(lines)
    try:
        import matplotlib as mpl  # noqa: PLC0415  # only a chart needs it
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        msg = f"matplotlib, which draws the chart, cannot be used: {error}"
        raise ChartError(msg) from error
    style = mpl.rc_context(
        {
            "svg.hashsalt": "bellhop",
            "svg.fonttype": "none",  # text stays text
            "font.family": "sans-serif",
            "font.size": 9,
            "text.color": _TEXT,
            "text.parse_math": False,
        }
    )
    with style:
        figure = Figure(figsize=_INCHES)
        cells = figure.subplots(len(results.scenarios), len(_COLUMNS), squeeze=False)
        for row, scenario in enumerate(results.scenarios):
            for column, metric in enumerate(_COLUMNS):
                _cell(cells[row][column], results, scenario, metric)
            cells[row][0].text(-0.08, 0.5, _ROWS[scenario], transform=cells[row][0].transAxes, ha="right", va="center")
        for column, title in enumerate(_COLUMNS.values()):
            cells[0][column].set_title(title, fontsize=9, loc="left", color=_TEXT)
        for nth, (label, name) in enumerate(_NAMES.items()):
            figure.text(0.16 + 0.12 * nth, 0.955, f"■ {name}", color=_COLOURS[label], fontsize=11, weight="bold")
        figure.text(0.16, 0.02, results.about(), fontsize=8, linespacing=1.5)
        figure.subplots_adjust(left=0.16, right=0.99, top=0.86, bottom=0.14, wspace=0.08, hspace=0.25)
        try:
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        except OSError as error:
            msg = f"the chart cannot be written: {error}"
            raise ChartError(msg) from error


def _cell(axes: Axes, results: Results, scenario: str, metric: str) -> None:
    values = {label: results.of(scenario, metric, label) for label in _NAMES}
    longest = max((value for value in values.values() if value is not None), default=0.0) or 1.0
    for nth, (label, value) in enumerate(values.items()):
        axes.barh(-nth * 1.25 * _BAR, value or 0.0, height=_BAR, color=_COLOURS[label])
        axes.text((value or 0.0) + 0.02 * longest, -nth * 1.25 * _BAR, _shown(value), va="center")
    axes.set_xlim(0, longest * _ROOM)
    axes.set_axis_off()


def _shown(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004  # as precise as is worth reading
