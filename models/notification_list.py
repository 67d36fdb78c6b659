"""Pages of a tenant's notifications, newest first.

Invariant: every page together shows each notification that passes the filters once, whatever is accepted or removed
meanwhile; and a page looks at a bounded number of rows, so one that filters by something rare may hold fewer than asked
for. A page is read from one snapshot: where a window ends is then where the rows that were looked at ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from models.cursors import Cursor
from models.queries import listing as sql

if TYPE_CHECKING:
    from collections.abc import Collection

    from models.contracts import NotificationsQuery
    from models.database import Database

_WINDOWS = 10  # of `listing.WINDOW` rows each, in one page
_BEFORE_ALL = UUID(int=0)


async def page(
    database: Database, tenant: str, query: NotificationsQuery, domains: Collection[str]
) -> tuple[list[dict[str, Any]], Cursor | None]:
    """Return up to `query.limit` rows, and where the next page begins; None where there is nothing more.

    `domains` are those that may be seen; none: all. Raises `UnavailableError`.
    """
    wanted: dict[str, Any] = {
        "type": query.type,
        "domain": query.domain,
        "domains": list(domains) or None,
        "priority": query.priority.rank if query.priority else None,
        "to": query.to,
        "status": query.status,
    }
    filters = {name: value for name, value in wanted.items() if value is not None}
    statement = sql.list_notifications(*filters)
    place = Cursor.read(query.next) if query.next else None
    found: list[dict[str, Any]] = []
    async with database.snapshot() as connection:
        for _ in range(_WINDOWS):
            asked = {**filters, **_range(tenant, query, place), "limit": query.limit + 1 - len(found)}
            found += await (await connection.execute(statement, asked)).fetchall()
            if len(found) > query.limit:
                return found[:-1], _place(found[-2])
            end = await (await connection.execute(sql.END_OF_WINDOW, asked)).fetchone()
            if end is None:
                return found, None
            place = _place(end)
    return found, place


def _range(tenant: str, query: NotificationsQuery, place: Cursor | None) -> dict[str, Any]:
    before: Any = query.created_before or "infinity"
    before_id = _BEFORE_ALL
    if place is not None and (query.created_before is None or place.created_at < query.created_before):
        before, before_id = place
    return {"tenant": tenant, "after": query.created_after or "-infinity", "before": before, "before_id": before_id}


def _place(row: dict[str, Any]) -> Cursor:
    return Cursor(row["created_at"], UUID(row["id"]))
