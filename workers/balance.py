"""Accepted = on its way + at an end: looked at at all times, a few notifications after another.

Those of the last while are gone through by their ids, again and again, and each look is of one moment. So a look costs
the same however many there are; where more come in than it can follow, it leaves out some, and `ops audit` does not.
What it has found is remembered, and as much of it as is counted is looked at each time, until it is where it must be.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from models import telemetry
from models.queries import audit as audit_sql
from models.queries import retention as retention_sql

if TYPE_CHECKING:
    from workers.resources import Resources

log = structlog.get_logger(__name__)

_NOTIFICATIONS = "balance"  # the name of the round
_ROUND_S = 60.0  # at most so often all of them are gone through
_MOST_LOOKS = 5
_MOST_LOOKS_AGAIN = audit_sql.MOST_UNACCOUNTED // audit_sql.MOST_LOOKED_AT_AGAIN  # at as many as are counted
_MOST_NAMED = 20  # in the log


def balance_once(resources: Resources) -> None:
    """Look at the next ones, and again at what was found before. Raises `models.database.TRANSIENT`."""
    window_s = resources.settings.balance_window_s
    if not window_s:
        return
    first = _first_id(time.time() - window_s)
    for _ in range(_MOST_LOOKS):
        if not _look_on(resources, first):
            break
    telemetry.unaccounted.set(_look_again(resources))


def _look_on(resources: Resources, first: str) -> bool:
    """Look at the next ones, from `first` on, and say whether there are more."""
    connection = resources.postgres()
    turn = {"what": _NOTIFICATIONS, "first": first, "round_s": _ROUND_S}
    begun = connection.execute(retention_sql.BEGIN_ROUND_IF_DUE, turn).fetchall()
    if not begun:
        return False
    (before,) = (row["cursor"] for row in begun)
    (seen,) = connection.execute(audit_sql.LOOK_AT_NOTIFICATIONS, {"after": max(before, first)}).fetchall()
    for state, count in seen["states"].items():
        telemetry.looked_at.labels(state).inc(count)
    for key in seen["found"][:_MOST_NAMED]:
        log.error("accepted, and neither on its way nor at an end", notification_id=key, found=len(seen["found"]))
    cursor = "" if seen["ended"] else seen["last"]
    moved = {"what": _NOTIFICATIONS, "before": before, "cursor": cursor}
    connection.execute(retention_sql.MOVE_CURSOR_IF_UNMOVED, moved)
    return bool(cursor)


def _look_again(resources: Resources) -> int:
    """Look at what was found before, from the first on, and return how many of it are not where they must be."""
    after = _first_id(0)
    for _ in range(_MOST_LOOKS_AGAIN):
        (row,) = resources.postgres().execute(audit_sql.LOOK_AGAIN, {"after": after}).fetchall()
        if row["ended"]:
            break
        after = row["last"]
    return int(row["unaccounted"])


def _first_id(at: float) -> str:
    """Return what is below every id that was made at this unix time: version 7 begins with the milliseconds."""
    return str(UUID(int=int(at * 1000) << 80))
