"""`growth`: what a notification costs with ten times the users, with eight socket nodes, and with years of history.

Each is compared with a small stack that stays up beside it: base and grown runs of `bulk` alternate, so that whatever
else slows the machine down hits both. The ratio of the medians is what counts.
"""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.bench.endpoint import StackError
from ops.bench.facts import Facts, Measure, ratio
from ops.bench.fill import filler
from ops.bench.lab import backstage_of, say
from ops.bench.load import measure
from ops.bench.open_files import allow_sockets
from ops.bench.scenarios import BULK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.figures import Figures
    from ops.bench.lab import Lab

NAME = "growth"
_TIMES_USERS = 10
_NODES = 8
_OLD_USERS, _OLD_EACH = 50_000, 200  # ten million deliveries
_BYTES_EACH = 1_000  # at most: a notification, its delivery, their indexes, and the log of writing them
_PAIRS = 3  # of runs, in one measurement
_LIMIT_S = 300.0
_MOST = 1.3
MEASURES = (
    Measure("cpu_ratio", "CPU each, grown against base, times", _MOST),
    Measure("base_cpu_us", "CPU each, base, µs"),
    Measure("grown_cpu_us", "CPU each, grown, µs"),
    Measure("throughput_ratio", "notifications per s, grown against base, times"),
    Measure("base_per_s", "notifications per s, base"),
    Measure("grown_per_s", "notifications per s, grown"),
)


@dataclass(frozen=True, slots=True)
class _Side:
    """What `bulk` is put to: a stack, and users whose inboxes exist."""

    endpoint: Endpoint
    users: int
    prefix: str
    about: dict[str, Any]


def run(lab: Lab) -> Iterator[Facts]:
    """Compare three kinds of growth with one base, one after the other; the largest tables come last."""
    allow_sockets(lab.users * _TIMES_USERS)
    with lab.stack() as small:
        lab.warm_up(small)
        base = _Side(small, lab.users, lab.prefix(), {"users": lab.users, "nodes": 1, "old_deliveries": 0})
        many = lab.users * _TIMES_USERS
        yield from _compare(lab, "users", base, _Side(small, many, lab.prefix(), {**base.about, "users": many}))
        with lab.stack(_NODES) as wide:
            lab.warm_up(wide)
            yield from _compare(
                lab, "nodes", base, _Side(wide, lab.users, lab.prefix(), {**base.about, "nodes": _NODES})
            )
        with lab.stack() as old:
            prefix = lab.prefix()
            deliveries = _write_history(lab, old, prefix)
            lab.warm_up(old)
            about = {**base.about, "old_deliveries": deliveries}
            yield from _compare(lab, "rows", base, _Side(old, lab.users, prefix, about))


def _write_history(lab: Lab, endpoint: Endpoint, prefix: str) -> int:
    """Give a stack old deliveries, those of the measured users among them; return how many. Raises `StackError`."""
    users = max(lab.users, lab.scaled(_OLD_USERS))
    each = max(1, lab.scaled(_OLD_USERS * _OLD_EACH) // users)
    count = users * each
    free, needed = shutil.disk_usage(lab.directory).free, count * _BYTES_EACH
    say(
        f"{NAME}: writing {count:,} old notifications and deliveries; "
        f"{needed / 1e9:.1f} GB of {free / 1e9:.1f} GB that are free"
    )
    if needed > free:
        msg = f"the disk is too full for {count:,} deliveries; free some of it, or use --scale"
        raise StackError(msg)
    said = 0.0

    def progress(share: float) -> None:
        nonlocal said
        if share - said >= 0.1:  # noqa: PLR2004  # every tenth
            said = share
            say(f"{NAME}: {share:.0%} written")

    with filler(backstage_of(endpoint)) as tables:
        tables.history(each, users=users, prefix=prefix, progress=progress)
        tables.tidy()
    return count


def _compare(lab: Lab, what: str, base: _Side, grown: _Side) -> Iterator[Facts]:
    for side in (base, grown):
        _bulk(lab, side, f"{what}: warming up")  # every inbox exists then
    for number in lab.runs:
        runs: dict[str, list[Figures]] = {"base": [], "grown": []}
        for pair in range(lab.scaled(_PAIRS)):
            order = (("base", base), ("grown", grown))
            for name, side in order if pair % 2 == 0 else reversed(order):
                runs[name].append(_bulk(lab, side, f"{what}, {name}"))
        yield _facts(f"{NAME}-{what}", number, base, grown, runs)


def _bulk(lab: Lab, side: _Side, what: str) -> Figures:
    work = measure(side.endpoint, BULK.scaled(lab.scale), users=side.users, prefix=side.prefix)
    return lab.run(work, limit_s=_LIMIT_S, what=f"{NAME}, {what}")


def _facts(scenario: str, number: int, base: _Side, grown: _Side, runs: dict[str, list[Figures]]) -> Facts:
    cpu_us = {name: statistics.median(each.cpu_us_per_notification for each in some) for name, some in runs.items()}
    per_s = {name: statistics.median(each.end_to_end_per_s for each in some) for name, some in runs.items()}
    faults: Counter[str] = Counter()
    for figures in (each for some in runs.values() for each in some):
        faults.update(figures.faults())
    return Facts(
        scenario=scenario,
        run=number,
        measures=MEASURES,
        values={
            "cpu_ratio": ratio(cpu_us["grown"], cpu_us["base"]),
            "base_cpu_us": cpu_us["base"],
            "grown_cpu_us": cpu_us["grown"],
            "throughput_ratio": ratio(per_s["grown"], per_s["base"]),
            "base_per_s": per_s["base"],
            "grown_per_s": per_s["grown"],
        },
        about={
            "base": base.about,
            "grown": grown.about,
            "n": runs["base"][0].n,
            "runs": {name: [_in_short(each) for each in some] for name, some in runs.items()},
        },
        faults=faults,
    )


def _in_short(figures: Figures) -> dict[str, Any]:
    return {
        "cpu_us": figures.cpu_us_per_notification,
        "per_s": figures.end_to_end_per_s,
        "cpu_us_by_process": figures.cpu_us_by_process,
        "client_cpu_us": figures.client_cpu_us_per_notification,
    }
