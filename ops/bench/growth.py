"""`growth`: what a notification costs with ten times the users, and with years of history.

Each is compared with a small stack that stays up beside it. More socket nodes are a scenario of their own, `nodes`.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ops.bench.endpoint import StackError
from ops.bench.fill import filler
from ops.bench.lab import backstage_of, say
from ops.bench.open_files import allow_sockets
from ops.bench.pairs import Side, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.facts import Facts
    from ops.bench.lab import Lab

NAME = "growth"
_TIMES_USERS = 10
_OLD_USERS, _OLD_EACH = 50_000, 200  # ten million deliveries
_BYTES_EACH = 1_000  # at most: a notification, its delivery, their indexes, and the log of writing them
_MOST = 1.3


def run(lab: Lab) -> Iterator[Facts]:
    """Compare two kinds of growth with one base, one after the other; the largest tables come last."""
    allow_sockets(lab.users * _TIMES_USERS)
    with lab.stack() as small:
        lab.warm_up(small)
        base = Side(small, lab.users, lab.prefix(), {"users": lab.users, "old_deliveries": 0})
        many = lab.users * _TIMES_USERS
        grown = Side(small, many, lab.prefix(), {**base.about, "users": many})
        yield from compare(lab, f"{NAME}-users", base, grown, _MOST)
        with lab.stack() as old:
            prefix = lab.prefix()
            deliveries = _write_history(lab, old, prefix)
            lab.warm_up(old)
            grown = Side(old, lab.users, prefix, {**base.about, "old_deliveries": deliveries})
            yield from compare(lab, f"{NAME}-rows", base, grown, _MOST)


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
