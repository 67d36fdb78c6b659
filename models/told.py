"""To which nodes something was pushed, as timelines tell of it. Pure: from the rows of `queries.pushes`.

A node is told where it holds the user and hears Redis. What a node reads from Postgres, for a device that connects
later or that a push has missed, is no push: only an ack tells of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

Row = dict[str, Any]  # `node`, `users`, `at` and `last_at`; of a batch that no node was told of, one without users


def told_of(deliveries: Mapping[int, int], batch: Iterable[Row]) -> list[Row]:
    """Return which nodes were told of these numbers, by inbox, from all rows of the batch that they were in."""
    return [{**row, "last_at": row["at"], "users": _reached(deliveries, row["stretches"])} for row in batch]


def _reached(deliveries: Mapping[int, int], stretches: str) -> int:
    return len({inbox for inbox, first, last in orjson.loads(stretches) if first <= deliveries.get(inbox, 0) <= last})


def is_offline(told: Sequence[Row]) -> bool:
    """Say whether it is known that no node was told. Where nothing was noted, nothing is known."""
    return bool(told) and not any(row["users"] for row in told)


def events_for_one(told: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what the timeline of one recipient says."""
    if is_offline(told):
        return [_offline(told[0]["at"], "no node held them; a device that connects later gets it all the same")]
    return [_pushed(row["at"], f"to the node {row['node']}") for row in told if row["users"]]


def events_for_all(told: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what the timeline of a notification says: a line for each node."""
    if is_offline(told):
        return [_offline(told[0]["at"], "no node held any of them; who connects later gets it all the same")]
    return [
        _pushed(row["at"], f"for {users(row['users'])} to the node {row['node']}{_until(row)}")
        for row in told
        if row["users"]
    ]


def users(how_many: int) -> str:
    """Return how many users, in words."""
    return "one user" if how_many == 1 else f"{how_many} users"


def _until(row: Row) -> str:
    return f", the last of them at {row['last_at']:%H:%M:%S} UTC" if row["last_at"] > row["at"] else ""


def _pushed(at: datetime, detail: str) -> dict[str, Any]:
    return {"at": at, "event": "pushed", "detail": detail}


def _offline(at: datetime, detail: str) -> dict[str, Any]:
    return {"at": at, "event": "offline", "detail": detail}
