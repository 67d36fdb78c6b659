"""Cancelling: whoever has not got it never will, and whoever has not read it loses it again.

One transaction decides for every recipient. Where they are up to a thousand, it does all of it and keeps the numbers,
so that asking again answers the same. Where they are more, they lose it in the outbox's order, a moment later, and are
counted in short statements before the answer. Nobody new gets it meanwhile: a digest that has it does not close before
that. So the numbers are those of the moment of the decision, whoever counts: a call that broke off is made again, and
goes on, and if it is not, some process does so in its stead.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from models import telemetry
from models.errors import UnavailableError
from models.frames import dumps
from models.outage import Outage
from models.push import withdrawal_pushes
from models.queries import digests as digest_sql
from models.queries import withdraw as sql
from models.states import Cause, Priority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from api.auth import Backend
    from api.hints import Hints
    from models.database import AsyncConnection, Database
    from models.push import Push
    from models.push_queue import PushQueue

    Ask = Callable[[str, Mapping[str, Any]], Awaitable[Sequence[dict[str, Any]]]]

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 1_000  # recipients of a kind, in the transaction that decides
COUNTED_AT_ONCE = 50_000  # some tenths of a second
_FIRST_NAME, _FIRST_ID = "", 0
_LOOK_S = 10.0
_LEFT_AFTER_S = 30.0  # without the numbers, for which whoever cancelled waits


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of the recipients: `cancelled` never get it, `recalled` lose it, `already_read` keep it.

    Those in whose digest it waits never get it; those who got it within a digest keep it.
    """

    cancelled: int
    recalled: int
    already_read: int


@dataclass(frozen=True, slots=True)
class _Counted:
    """How many of those that were seen count."""

    n: int = 0
    seen: int = 0


class Cancellations:
    """Cancels."""

    def __init__(self, database: Database, hints: Hints, pushes: PushQueue) -> None:
        self._database = database
        self._hints = hints
        self._pushes = pushes
        self._outage = Outage(log, "postgres is away; what was cancelled for very many is not counted")

    async def cancel(self, backend: Backend, notification_id: str) -> Cancellation | None:
        """Cancel, or find that it was. Returns None where the tenant has no such notification.

        Raises `ForbiddenError` for a domain that the key may not write to, and `UnavailableError`: then it is to be
        called again.
        """
        async with self._database.transaction() as connection:
            found = await _rows(connection, sql.FIND_TO_CANCEL, {"tenant": backend.tenant, "id": notification_id})
            if not found:
                return None
            (notification,) = found
            backend.require_domain(notification["domain"])
            begun = await _rows(connection, sql.BEGIN_RECALL_IF_NEW, {"id": notification["id"]})
            recall = _Recall(backend.tenant, notification)
            if begun:
                await recall.decide(connection, begun[0]["at"])
        if begun:
            telemetry.cancelled.labels(str(recall.priority)).inc()
            telemetry.withdrawn.labels(str(Cause.RECALLED)).inc(len(recall.pushes))
            self._pushes.put(recall.pushes)
            self._hints.want([recall.priority] if recall.is_queued else ())
        done = await self._counted(recall)
        if begun and done:
            log.info("cancelled", notification_id=notification_id, recalled=done.recalled, cancelled=done.cancelled)
        return done

    async def finish_regularly(self) -> None:
        """Finish, for ever, what broke off."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.finish(_LEFT_AFTER_S)
                self._outage.is_over()
            except UnavailableError as error:
                self._outage.goes_on(error)

    async def finish(self, older_than_s: float) -> None:
        """Count what was decided longer ago than that, and is not counted. Raises `UnavailableError`."""
        for row in await self._database.rows(sql.FIND_RECALLS_LEFT_UNCOUNTED, {"older_than_s": older_than_s}):
            await self._counted(_Recall(row["tenant"], row))

    async def _counted(self, recall: _Recall) -> Cancellation | None:
        """Return the numbers; where they were put off, count. None where it is erased meanwhile."""
        found = await self._database.rows(sql.FIND_RECALL, recall.key)
        if found and not found[0]["counted"]:
            await self._count(recall, found[0])
            found = await self._database.rows(sql.FIND_RECALL, recall.key)
        numbers = ("cancelled", "recalled", "already_read")
        return Cancellation(**{name: found[0][name] for name in numbers}) if found else None

    async def _count(self, recall: _Recall, decided: Mapping[str, Any]) -> None:
        left, there = await recall.count(self._database.rows, decided["at"], decided["due_at"], None)
        arrived, after = 0, _FIRST_ID
        while True:
            async with self._database.transaction() as connection:
                digests = await recall.digests(connection, after, MOST_AT_ONCE)
                waiting, closed = await recall.leave_digests(connection, digests)
                await connection.execute(sql.COUNT_CANCELLED, {**recall.key, "n": waiting})
            arrived += closed
            if len(digests) < MOST_AT_ONCE:
                break
            after = digests[-1]
        kept = there.seen - there.n + arrived
        numbers = {"left": left.n, "recalled": there.n, "already_read": kept}
        await self._database.rows(sql.FINISH_COUNT_IF_UNCOUNTED, {**recall.key, **numbers})


class _Recall:
    """What is done to cancel one notification."""

    def __init__(self, tenant: str, notification: Mapping[str, Any]) -> None:
        self._tenant = tenant
        self._audience = notification["audience"]
        actor = notification["actor"] or {}
        self._excluded = actor.get("id", "") if self._audience.get("exclude_actor") else ""
        self.key = {"id": notification["id"]}
        self.priority = Priority.of_rank(notification["priority"])
        self.is_queued = False
        self.pushes: list[Push] = []

    async def decide(self, connection: AsyncConnection, at: datetime) -> None:
        """Take it from whoever has not got it; from whoever has, where they are few, else queue that."""
        taken = [row for statement in sql.TAKE_OUT for row in await _rows(connection, statement, self.key)]
        due_at = taken[0]["due_at"] if taken else None
        left, there = await self.count(partial(_rows, connection), at, due_at, MOST_AT_ONCE + 1)
        digests = await self.digests(connection, _FIRST_ID, MOST_AT_ONCE + 1)
        if max(left.seen, there.seen, len(digests)) > MOST_AT_ONCE:
            self.is_queued = True
            await connection.execute(sql.QUEUE_RECALL, {**self.key, "priority": self.priority.rank})
            await connection.execute(sql.NOTE_RECALL_TO_BE_COUNTED, {**self.key, "due_at": due_at})
            return
        self.pushes = await self._withdraw(connection)
        waiting, arrived = await self.leave_digests(connection, digests)
        numbers = {
            "cancelled": left.n + waiting,
            "recalled": len(self.pushes),
            "already_read": there.seen - len(self.pushes) + arrived,
        }
        await connection.execute(sql.NOTE_RECALL, {**self.key, **numbers})

    async def count(
        self, ask: Ask, at: datetime, due_at: datetime | None, most: int | None
    ) -> tuple[_Counted, _Counted]:
        """Count those who have yet to get it, and those who have it; up to `most` of each, where it is given."""
        left = _Counted() if due_at is None else await self._count_left(ask, at, due_at, most)
        there = await _count_bit_by_bit(ask, sql.count_to_recall, {**self.key, "at": at}, _FIRST_ID, most)
        return left, there

    async def _count_left(self, ask: Ask, at: datetime, due_at: datetime, most: int | None) -> _Counted:
        asked = {**self.key, "tenant": self._tenant, "at": at, "due_at": due_at, "excluded": self._excluded}
        match self._audience:
            case {"users": [*users]}:
                return _Counted(len(set(users)), len(users))
            case {"topic": topic}:
                asked["topic"] = topic
                return await _count_bit_by_bit(ask, sql.count_subscribers_left, asked, _FIRST_NAME, most)
            case {"everyone": True}:
                return await _count_bit_by_bit(ask, sql.count_inboxes_left, asked, _FIRST_NAME, most)
            case _:
                return _Counted(1, 1)

    async def digests(self, connection: AsyncConnection, after: int, most: int) -> list[int]:
        """Return the next digests that it is in, or was in when they closed."""
        rows = await _rows(connection, digest_sql.digests_of(most), {**self.key, "after": after})
        return [row["id"] for row in rows]

    async def leave_digests(self, connection: AsyncConnection, digests: Sequence[int]) -> tuple[int, int]:
        """Take it out of those that are open, after the inboxes. Returns of how many, and in how many it stays."""
        asked = {**self.key, "digests": digests}
        await connection.execute(digest_sql.LOCK_DIGESTS, asked)
        (row,) = await _rows(connection, digest_sql.TAKE_OUT_OF_DIGESTS, asked)
        return row["waiting"], row["arrived"]

    async def _withdraw(self, connection: AsyncConnection) -> list[Push]:
        asked = dumps([{"ord": 0, **self.key, "cause": Cause.RECALLED}]).decode()
        found = await _rows(connection, sql.next_to_withdraw(MOST_AT_ONCE), {"asked": asked})
        await connection.execute(sql.LOCK_INBOXES, {"inboxes": [row["inbox_id"] for row in found]})
        keys = [{"inbox_id": row["inbox_id"], "seq": row["seq"], "cause": Cause.RECALLED} for row in found]
        return withdrawal_pushes(await _rows(connection, sql.WITHDRAW, {"keys": dumps(keys).decode()}), self.priority)


async def _count_bit_by_bit(
    ask: Ask, statement: Callable[[int], str], asked: Mapping[str, Any], after: str | int, most: int | None
) -> _Counted:
    limit = most or COUNTED_AT_ONCE
    n = seen = 0
    while True:
        (row,) = await ask(statement(limit), {**asked, "after": after})
        n, seen, after = n + row["n"], seen + row["seen"], row["last"]
        if most or row["seen"] < limit:
            return _Counted(n, seen)


async def _rows(connection: AsyncConnection, statement: str, parameters: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall()
