"""Cancelling: whoever has not got it never will, and whoever has not read it loses it again.

One transaction decides for every recipient and keeps the numbers, so that asking again answers the same. What reaches
more than a thousand inboxes leaves them in the outbox's order, a moment after the answer; nobody new gets it meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from models import telemetry
from models.frames import dumps
from models.push import withdrawal_pushes
from models.queries import digests as digest_sql
from models.queries import withdraw as sql
from models.states import Cause, Priority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from api.auth import Backend
    from api.hints import Hints
    from models.database import AsyncConnection, Database
    from models.push import Push
    from models.push_queue import PushQueue

log = structlog.get_logger(__name__)

_AT_ONCE = 1_000  # inboxes that are changed in the transaction that decides


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of the recipients: `cancelled` never get it, `recalled` lose it, `already_read` keep it.

    Those in whose digest it waits never get it; those who got it within a digest keep it.
    """

    cancelled: int
    recalled: int
    already_read: int


class Cancellations:
    """Cancels."""

    def __init__(self, database: Database, hints: Hints, pushes: PushQueue) -> None:
        self._database = database
        self._hints = hints
        self._pushes = pushes

    async def cancel(self, backend: Backend, notification_id: str) -> Cancellation | None:
        """Cancel, or find that it was. Returns None where the tenant has no such notification.

        Raises `ForbiddenError` for a domain that the key may not write to, and `UnavailableError`, with nothing done.
        """
        pushes: list[Push] = []
        async with self._database.transaction() as connection:
            found = await _rows(connection, sql.FIND_TO_CANCEL, {"tenant": backend.tenant, "id": notification_id})
            if not found:
                return None
            (notification,) = found
            backend.require_domain(notification["domain"])
            key = {"id": notification["id"]}
            if not await _rows(connection, sql.BEGIN_RECALL_IF_NEW, key):
                (kept,) = await _rows(connection, sql.FIND_RECALL, key)
                return Cancellation(**kept)
            cancelled = await _never_to_be_told(connection, backend.tenant, notification)
            (there,) = await _rows(connection, sql.COUNT_TO_RECALL, key)
            done = Cancellation(cancelled, there["recalled"], there["delivered"] - there["recalled"])
            priority = Priority.of_rank(notification["priority"])
            is_large = done.recalled > _AT_ONCE
            if is_large:
                await connection.execute(sql.QUEUE_RECALL, {**key, "priority": priority.rank})
            else:
                pushes = await _withdraw(connection, notification["id"], priority)
                done = Cancellation(cancelled, len(pushes), there["delivered"] - len(pushes))
            waiting, arrived = await _leave_digests(connection, key)
            done = Cancellation(done.cancelled + waiting, done.recalled, done.already_read + arrived)
            await connection.execute(
                sql.NOTE_RECALL,
                {
                    **key,
                    "at": there["at"],
                    "cancelled": done.cancelled,
                    "recalled": done.recalled,
                    "already_read": done.already_read,
                    "detail": f"never to arrive for {done.cancelled}, recalled from {done.recalled}, "
                    f"read before by {done.already_read}",
                },
            )
        telemetry.cancelled.labels(str(priority)).inc()
        telemetry.withdrawn.labels(str(Cause.RECALLED)).inc(len(pushes))
        self._pushes.put(pushes)
        if is_large:
            self._hints.want([priority])
        log.info("cancelled", notification_id=notification_id, recalled=done.recalled, cancelled=done.cancelled)
        return done


async def _never_to_be_told(connection: AsyncConnection, tenant: str, notification: Mapping[str, Any]) -> int:
    """Take a notification out of the outbox. Returns for how many users it still was."""
    key = {"id": notification["id"]}
    taken = [row for statement in sql.TAKE_OUT for row in await _rows(connection, statement, key)]
    if not taken:
        return 0
    audience, actor = notification["audience"], notification["actor"] or {}
    excluded = actor.get("id", "") if audience.get("exclude_actor") else ""
    left = {"tenant": tenant, "id": notification["id"], "due_at": taken[0]["due_at"], "excluded": excluded}
    match audience:
        case {"users": [*users]}:
            return len(set(users))
        case {"topic": topic}:
            (row,) = await _rows(connection, sql.COUNT_SUBSCRIBERS_LEFT, {**left, "topic": topic})
        case {"everyone": True}:
            (row,) = await _rows(connection, sql.COUNT_INBOXES_LEFT, left)
        case _:
            return 1
    count: int = row["n"]
    return count


async def _leave_digests(connection: AsyncConnection, key: Mapping[str, Any]) -> tuple[int, int]:
    """Take it out of open digests, after the inboxes. Returns of how many, and in how many that closed it stays."""
    await connection.execute(digest_sql.LOCK_DIGESTS_OF, key)
    (row,) = await _rows(connection, digest_sql.TAKE_OUT_OF_DIGESTS, key)
    return row["waiting"], row["arrived"]


async def _withdraw(connection: AsyncConnection, notification_id: str, priority: Priority) -> list[Push]:
    asked = dumps([{"ord": 0, "id": notification_id, "cause": Cause.RECALLED}]).decode()
    found = await _rows(connection, sql.next_to_withdraw(_AT_ONCE), {"asked": asked})
    await connection.execute(sql.LOCK_INBOXES, {"inboxes": [row["inbox_id"] for row in found]})
    keys = [{"inbox_id": row["inbox_id"], "seq": row["seq"], "cause": Cause.RECALLED} for row in found]
    return withdrawal_pushes(await _rows(connection, sql.WITHDRAW, {"keys": dumps(keys).decode()}), priority)


async def _rows(connection: AsyncConnection, statement: str, parameters: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall()
