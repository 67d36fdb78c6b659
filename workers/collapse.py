"""Lets what has a collapse key take the place of what is unread of the same user, type and key.

Runs in the transaction that delivers: the old goes and the new comes with one commit, and a crash loses neither.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from models.frames import dumps
from models.queries import collapse as sql

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from models.database import Connection
    from workers.plan import Box, CollapseKey, Plan


def collapse(connection: Connection, plan: Plan) -> None:
    """Take out what the plan's entries replace, and let each say how many it stands for. Raises `psycopg.Error`."""
    keyed = {key: entry for entry in plan.entries if (key := entry.collapse_key) is not None}
    if not keyed:
        return
    boxes = {entry.box for entry in plan.entries}  # also those that replace nothing: all are locked in one order
    plan.changes, taken = take_places(connection, boxes, keyed)
    for key, places in taken.items():
        keyed[key].collapsed += places


def take_places(
    connection: Connection, boxes: Collection[Box], keys: Collection[CollapseKey]
) -> tuple[dict[Box, Mapping[str, Any]], dict[CollapseKey, int]]:
    """Lock these inboxes and take out what is unread of these keys.

    Returns the change of each inbox that lost something, and how many deliveries each key stood for.
    """
    users = [{"tenant": tenant, "user_id": user} for tenant, user in boxes]
    connection.execute(sql.LOCK_OR_CREATE_INBOXES, {"users": dumps(users).decode()})
    names = ("tenant", "user_id", "type", "collapse_key")
    asked = dumps([dict(zip(names, key, strict=True)) for key in keys]).decode()
    rows = connection.execute(sql.COLLAPSE, {"keys": asked}).fetchall()
    stood_for: Counter[CollapseKey] = Counter()
    for row in rows:
        for type_, key, n in row["taken"]:
            stood_for[row["tenant"], row["user_id"], type_, key] += n
    return {(row["tenant"], row["user_id"]): row for row in rows}, stood_for
