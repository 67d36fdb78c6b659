"""Holds all rows against each other: what was accepted is what has ended and what is on its way, and numbers are right.

It only reads, and everything in one snapshot: whatever moves meanwhile, the sums are of one moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.database import connect, snapshot
from models.queries import audit as sql

if TYPE_CHECKING:
    from models.database import Connection

STATES = ("waiting", "scheduled", "parked", "dispatched", "cancelled", "expired", "lost")
_CHECKS = (
    (sql.COUNT_INBOXES, sql.FAULTY_INBOXES),
    (sql.COUNT_DIGESTS, sql.FAULTY_DIGESTS),
    (sql.COUNT_ORPHANS, sql.ORPHANS),
)


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. `counts` has a number for each of `STATES`, and of what else there is."""

    counts: dict[str, int]
    faults: int
    some: tuple[tuple[str, str], ...]  # the first of them: what it is about, and what is wrong with it

    @property
    def accepted(self) -> int:
        """How many notifications there are."""
        return sum(self.counts[state] for state in STATES)


def audit(database_url: str, limit: int) -> Audit:
    """Look at everything, and name up to `limit` things that are wrong. Raises `psycopg.Error`."""
    with connect(database_url) as connection, snapshot(connection):
        return _audit(connection, limit)


def _audit(connection: Connection, limit: int) -> Audit:
    counts = dict.fromkeys(STATES, 0)
    faults = 0
    some: list[tuple[str, str]] = []

    def name(statement: str, how_many: int) -> None:
        nonlocal faults
        faults += how_many
        if how_many and len(some) < limit:
            rows = connection.execute(statement, {"limit": limit - len(some)}).fetchall()
            some.extend((row["what"], row["fault"]) for row in rows)

    by_state = connection.execute(sql.COUNT_BY_STATE).fetchall()
    counts.update({row["state"]: row["n"] for row in by_state})
    name(sql.FAULTY_NOTIFICATIONS, sum(row["faults"] for row in by_state))
    for count, list_some in _CHECKS:
        (row,) = connection.execute(count).fetchall()
        name(list_some, row.pop("faults"))
        counts.update(row)
    return Audit(counts, faults, tuple(some))
