"""Stage 3, backwards: what was recalled or has expired leaves the inboxes, with numbered changes, in bounded bits.

As with a broadcast, how far it is commits with what was done: a worker killed anywhere takes nothing back twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.frames import dumps
from models.push import withdrawal_pushes
from models.queries import withdraw as sql
from models.states import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.database import Connection
    from models.push import Push
    from models.states import Priority


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What one transaction took back: `rows` of the outbox are done, and `pushes` tell devices."""

    rows: int
    pushes: list[Push]
    deliveries: Mapping[Cause, int]


def withdraw_next(
    connection: Connection, priority: Priority, claimed: Sequence[Mapping[str, Any]], *, most: int
) -> Withdrawn:
    """Take back up to `most` deliveries of the notifications in the claimed rows, which all withdraw, in their order.

    `most` is at least 1. Runs in the caller's transaction. Raises `psycopg.Error`.
    """
    claimed = _each_once(claimed)
    asked = [{"ord": nth, "id": row["id"], "cause": row["withdraws"]} for nth, row in enumerate(claimed)]
    found = connection.execute(sql.next_to_withdraw(most), {"asked": dumps(asked).decode()}).fetchall()
    pushes: list[Push] = []
    if found:
        inboxes = list({row["inbox_id"] for row in found})
        connection.execute(sql.LOCK_INBOXES, {"inboxes": inboxes})
        keys = [
            {"inbox_id": row["inbox_id"], "seq": row["seq"], "cause": claimed[row["ord"]]["withdraws"]} for row in found
        ]
        changes = connection.execute(sql.WITHDRAW, {"keys": dumps(keys).decode()}).fetchall()
        pushes = withdrawal_pushes(changes, priority)
    done = claimed if len(found) < most else claimed[: found[-1]["ord"]]
    connection.execute(sql.FINISH_WITHDRAWALS, {"positions": [row["position"] for row in done]})
    deliveries = Counter(Cause(claimed[row["ord"]]["withdraws"]) for row in found)
    return Withdrawn(len(done), pushes, deliveries)


def _each_once(claimed: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the rows up to the first that is about the same notification as one before: they would take the same."""
    seen: set[str] = set()
    for nth, row in enumerate(claimed):
        if row["id"] in seen:
            return claimed[:nth]
        seen.add(row["id"])
    return claimed
