"""What operators do with rows that could not be dispatched: look, and put back."""

from __future__ import annotations

from typing import Any

from models.database import connect
from models.queries import recover
from models.states import Priority


def list_parked(database_url: str) -> list[dict[str, Any]]:
    """Return the parked notifications, oldest first, with their reasons."""
    with connect(database_url) as connection:
        rows = connection.execute(recover.LIST_PARKED).fetchall()
    return [{**row, "priority": str(Priority.of_rank(row["priority"]))} for row in rows]


def replay_parked(database_url: str, ids: list[str] | None) -> int:
    """Put parked notifications back into the outbox; all of them where `ids` is None. Returns how many."""
    with connect(database_url) as connection:
        return connection.execute(recover.REPLAY_PARKED, {"all": ids is None, "ids": ids or []}).rowcount
