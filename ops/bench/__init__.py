"""`python -m ops bench`: what this machine's Bellhop does per second, how fast, at what cost, and beside what else.

One load generator holds a socket per user, posts notifications, and times each from just before its POST to its
arrival at its socket. It puts the same scenarios to Bellhop and to a Node.js stack, in turns. The way of a run:
`session` starts the stacks and takes turns, `load` measures one run, `posting` sends, `sockets` receive, `recorder`
keeps the books, `report` compares, and `chart` draws.

What has stacks of its own has a module each (`under_load`, `depth`, `connections`, `storm`, `growth`, `nodes`,
`rooms` with `hot_room`), which gets its stacks from a `lab`, fills tables with `fill`, and returns `facts`. To a room
`broadcasts` posts, its `members` receive, and `attendance` keeps the books. docs/benchmark.md says how to read what
comes out.

Invariants: everything is on loopback and bounded in count and time; the exit status speaks of what was lost, doubled or
out of order, never of speed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MEASURES, _DRAWS = "picows", "matplotlib"  # not part of what Bellhop needs to run


@dataclass(frozen=True)
class Options:
    """What to measure. `only` names scenarios; none means those that are compared with the peer.

    `dev_json` names a stack that runs already. `chart` is drawn from this call's runs, or from those in `results`,
    and nothing is measured then.
    """

    only: tuple[str, ...] = ()
    users: int = 500
    repeat: int = 1
    backlog: int = 100_000
    scale: float = 1.0
    peer: bool = True
    dev_json: Path | None = None
    chart: Path | None = None
    results: Path | None = None


def run(options: Options) -> int:
    """Measure, print, draw, and return the exit status."""
    needed = [*([] if options.results else [_MEASURES]), *([_DRAWS] if options.chart else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"{', '.join(missing)} is not installed; `make bench` installs what measuring needs.\n")
        return 1
    if options.results:
        return _drawn(options, options.results)
    from ops.bench.session import measure_all  # noqa: PLC0415  # it imports what was just looked for

    return measure_all(options)


def _drawn(options: Options, results: Path) -> int:
    from ops.bench.chart import ChartError, draw, read  # noqa: PLC0415  # only where something is drawn

    try:
        if options.chart:
            draw(read(results), options.chart)
    except ChartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
