"""Lets what has a collapse key take the place of what is unread of the same user, type and key.

Runs in the transaction that delivers: the old goes and the new comes with one commit, and a crash loses neither. The
newest is what was accepted last, or was due last: what it has overtaken does not take its place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.frames import dumps
from models.queries import collapse as sql
from models.states import OVERTAKEN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from models.database import Connection
    from workers.plan import Box, CollapseKey, Plan


@dataclass(slots=True)
class Places:
    """What became of what was unread: the change of each inbox that lost something; for how many each key stood."""

    changes: dict[Box, Mapping[str, Any]] = field(default_factory=dict)
    taken: Counter[CollapseKey] = field(default_factory=Counter)
    overtaken: set[CollapseKey] = field(default_factory=set)  # where something newer stays


def collapse(connection: Connection, plan: Plan) -> None:
    """Take out what the plan's entries replace, and let each say how many it stands for. Raises `psycopg.Error`.

    An entry that was overtaken is suppressed instead.
    """
    keyed = {key: entry for entry in plan.entries if (key := entry.collapse_key) is not None}
    if not keyed:
        return
    boxes = {entry.box for entry in plan.entries}  # also those that replace nothing: all are locked in one order
    places = take_places(
        connection, boxes, {key: (entry.row["said_at"], entry.collapsed + 1) for key, entry in keyed.items()}
    )
    plan.changes = places.changes
    for key, stood_for in places.taken.items():
        keyed[key].collapsed += stood_for
    if places.overtaken:
        plan.suppress(OVERTAKEN, [keyed[key] for key in places.overtaken])


def take_places(
    connection: Connection, boxes: Collection[Box], arriving: Mapping[CollapseKey, tuple[datetime, int]]
) -> Places:
    """Lock these inboxes and take out what is unread of these keys, and was not said after what arrives now.

    Of each key, `arriving` says when that was said, and how many it is: itself, and what it stands for.
    """
    users = [{"tenant": tenant, "user_id": user} for tenant, user in boxes]
    connection.execute(sql.LOCK_OR_CREATE_INBOXES, {"users": dumps(users).decode()})
    names = ("tenant", "user_id", "type", "collapse_key", "said_at", "stands_for")
    asked = dumps([dict(zip(names, (*key, *what), strict=True)) for key, what in arriving.items()]).decode()
    places = Places()
    for row in connection.execute(sql.COLLAPSE, {"keys": asked}).fetchall():
        box = row["tenant"], row["user_id"]
        if row["overtaken"] is not None:
            places.overtaken |= {(*box, type_, key) for type_, key in row["overtaken"]}
            continue
        places.changes[box] = row
        for type_, key, n in row["taken"]:
            places.taken[(*box, type_, key)] += n
    return places
