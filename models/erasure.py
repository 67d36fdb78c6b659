"""Erases a user: everything that stands under their name, but for the row that keeps their older tokens from working.

It is many small transactions, and each leaves what an audit finds in order; one that is killed in between is called
again. Nothing that was accepted before it began reaches the user afterwards:

- What waits for them by name is taken out while no dispatcher of its priority is at work.
- Their subscriptions go first and their inbox goes last, in a transaction in which no dispatcher at all is at work. So
  a broadcast that was delivering to them has done so, and it goes with the rest; one that comes to their turn later
  finds neither a subscription nor an inbox, and passes them by.
- Their digests go with the inbox, and with what they became that was not dispatched yet: none closes afterwards.

What is accepted after it began is for whoever has the name next. It is left where it waits, so that an erasure ends
however much is sent; only what a dispatcher writes into the inbox before that goes, goes with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from models.queries import dispatch as dispatch_sql
from models.queries import erase as sql
from models.queries import inbox as inbox_sql
from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from models.database import AsyncConnection, Database
    from models.revocations import Revocations

COUNTED = (
    "deliveries",
    "changes",
    "notifications",
    "shared_notifications",
    "suppressions",
    "digests",
    "subscriptions",
    "preferences",
)
_ANY = 2**63 - 1  # of the ids
_RANKS = range(len(Priority) - 1, -1, -1)  # what is critical is held up last, and so for the shortest time
_OF_DIGESTS = (Priority.LOW.rank, Priority.NORMAL.rank)  # in the same order


async def erase(
    database: Database, revocations: Revocations, tenant: str, user: str
) -> tuple[dict[str, int], datetime]:
    """Erase a user, and return how many rows of each kind that were, and since when their tokens are refused.

    Raises `UnavailableError` where Postgres is away, or somebody holds what is needed: then it is to be called again.
    """
    # From here on, the user and their devices add nothing.
    erasure = _Erasure(database, tenant, user, await revocations.revoke(tenant, user, erased=True))
    await erasure.run()
    # Again, for a socket that was opened with a new token meanwhile: it goes by the numbers of an inbox that is gone.
    revoked_at = await revocations.revoke(tenant, user, erased=True)
    await database.rows(sql.FORGET_LANGUAGE_ALONE, {"tenant": tenant, "user": user})  # that such a token came with
    return {name: erasure.counts[name] for name in COUNTED}, revoked_at


class _Erasure:
    def __init__(self, database: Database, tenant: str, user: str, begun: datetime) -> None:
        self._database = database
        self._whose: dict[str, Any] = {"tenant": tenant, "user": user, "begun": begun}
        self.counts: Counter[str] = Counter()
        self._floor = 0  # of the inbox, as far as this has raised it
        self._was_trimmed = False  # by retention, or by an erasure that broke off

    async def run(self) -> None:
        """Take one step after the other, each until nothing is left of it."""
        while await self._counted(sql.UNSUBSCRIBE_FROM_SOME):
            pass
        while await self._forget_what_waits():
            pass
        await self._erase_digests()
        await self._forget_what_ended()
        await self._erase_numbers()
        if self._was_trimmed:
            await self._forget_what_was_trimmed()
        gone_at = await self._erase_inbox()
        while await self._erase_suppressions(gone_at):
            pass
        await self._counted(sql.FORGET_PREFERENCES)
        await self._database.rows(sql.FORGET_CURSORS, self._whose)

    async def _counted(self, statement: str) -> int:
        """Do what is a transaction of its own, and return how many rows it concerned."""
        (row,) = await self._database.rows(statement, self._whose)
        self.counts.update(row)
        return sum(row.values())

    async def _forget_what_waits(self) -> bool:
        """Look through all that waits. True where there was something: an operator may put it back in that moment."""
        look: dict[str, Any] = {"after": 0, "until": None, "event": None}
        found = False
        while look["after"] is not None:
            (row,) = await self._database.rows(sql.NAMED_IN_OUTBOX, {**self._whose, **look})
            named: dict[int, list[str]] = defaultdict(list)
            for rank, key in row["named"]:
                named[rank].append(key)
            for rank, ids in named.items():
                for some in _pieces(ids):
                    found |= await self._forget_waiting(rank, some)
            look = {"after": row["last"], "until": row["until"], "event": row["event"]}
        return found

    async def _forget_waiting(self, rank: int, ids: Sequence[str]) -> bool:
        async with self._database.transaction() as connection:
            await _stop_dispatchers(connection, [rank])
            waiting = await (await connection.execute(sql.STILL_WAITING, {"ids": ids})).fetchall()
            taken = await self._take_out(connection, sql.FORGET_WAITING, [row["id"] for row in waiting])
        self.counts.update(taken)
        return any(taken.values())

    async def _forget_what_ended(self) -> None:
        look: dict[str, Any] = {"after": 0, "until": None}
        while look["after"] is not None:
            (row,) = await self._database.rows(sql.NAMED_IN_EVENTS, {**self._whose, **look})
            await self._forget_ended(row["named"])
            look = {"after": row["last"], "until": row["until"]}

    async def _forget_what_was_trimmed(self) -> None:
        look: dict[str, Any] = {"after": "-infinity", "after_id": UUID(int=0)}
        while look["after"] is not None:
            (look,) = await self._database.rows(sql.NAMED_IN_NOTIFICATIONS, {**self._whose, **look})
            await self._forget_ended(look.pop("named"))

    async def _forget_ended(self, ids: Sequence[str]) -> None:
        for some in _pieces(ids):
            async with self._database.transaction() as connection:
                taken = await self._take_out(connection, sql.FORGET_ENDED, some)
            self.counts.update(taken)

    async def _erase_numbers(self) -> None:
        """Erase what is in the inbox by now, the oldest entries first; what comes in meanwhile goes with the inbox."""
        floor, until = -1, 0
        while floor < until:
            async with self._database.transaction() as connection:
                done, reached, head = await self._lowest_numbers(connection)
            self.counts.update(done)
            floor, until = reached, until or head

    async def _erase_inbox(self) -> datetime:
        """Erase the inbox with what came in meanwhile, while nothing comes in. Returns when that was."""
        done: Counter[str] = Counter()
        async with self._database.transaction() as connection:
            await _stop_dispatchers(connection, _RANKS)
            floor, head = -1, 0
            while floor < head:
                some, floor, head = await self._lowest_numbers(connection)
                done.update(some)
            more = True
            while more:
                some, more, _ = await self._some_digests(connection, _ANY)
                done.update(some)
            row = await (await connection.execute(sql.DELETE_INBOX, self._whose)).fetchone()
            assert row is not None  # noqa: S101  # it says what time it is
        self.counts.update(done)
        gone_at: datetime = row["at"]
        return gone_at

    async def _lowest_numbers(self, connection: AsyncConnection) -> tuple[Counter[str], int, int]:
        """Erase some. Returns up to which number, and which is the last, too; both 0 where there is no inbox."""
        await connection.execute(inbox_sql.LOCK_INBOX, self._whose)
        row = await (await connection.execute(sql.ERASE_LOWEST_NUMBERS, self._whose)).fetchone()
        if row is None:
            return Counter(), 0, 0
        self._was_trimmed |= row["floor_before"] > self._floor
        self._floor = max(row["floor"], row["floor_before"])
        done = Counter(deliveries=row["deliveries"], changes=row["changes"])
        done.update(await self._take_out(connection, sql.FORGET_ENDED, row["notifications"]))
        return done, row["floor"], row["last_seq"]

    async def _erase_digests(self) -> None:
        """Erase those that there are by now; the inbox is erased together with those that come later."""
        more, until = True, _ANY
        while more:
            async with self._database.transaction() as connection:
                await _stop_dispatchers(connection, _OF_DIGESTS)
                done, more, newest = await self._some_digests(connection, until)
            self.counts.update(done)
            until = min(until, newest)

    async def _some_digests(self, connection: AsyncConnection, until: int) -> tuple[Counter[str], bool, int]:
        """Erase some up to one, while nothing is dispatched. Returns whether that left any, and which is the newest."""
        found = await (await connection.execute(sql.LOCK_SOME_DIGESTS, {**self._whose, "until": until})).fetchall()
        if not found:
            return Counter(), False, until
        digests = {"digests": [row["id"] for row in found]}
        row = await (await connection.execute(sql.ERASE_DIGESTS, digests)).fetchone()
        assert row is not None  # noqa: S101  # it counts
        done = Counter(digests=row["digests"])
        done.update(await self._take_out(connection, sql.FORGET_ENDED, row["notifications"]))
        done.update(await self._take_out(connection, sql.FORGET_WAITING, row["own"]))
        more = max(len(found), len(row["notifications"])) >= sql.MOST_ROWS
        return done, more, found[0]["newest"]

    async def _erase_suppressions(self, gone_at: datetime) -> int:
        asked = {**self._whose, "gone_at": gone_at}
        async with self._database.transaction() as connection:
            row = await (await connection.execute(sql.ERASE_SOME_SUPPRESSIONS, asked)).fetchone()
            assert row is not None  # noqa: S101  # it counts
            taken = await self._take_out(connection, sql.FORGET_ENDED, row["notifications"])
        self.counts.update(taken, suppressions=row["suppressions"])
        return int(row["suppressions"])

    async def _take_out(self, connection: AsyncConnection, forget: str, ids: Sequence[Any]) -> Counter[str]:
        """Take the user out of these notifications' audiences, and `forget` those that were for nobody else."""
        taken: Counter[str] = Counter()
        if ids:
            await connection.execute(sql.LOCK_THOSE_THAT_NAME_THEM, {**self._whose, "ids": list(ids)})
            for statement in (sql.TAKE_OUT_OF_AUDIENCES, forget):
                cursor = await connection.execute(statement, {**self._whose, "ids": list(ids)})
                taken.update(await cursor.fetchone() or {})
        return taken


async def _stop_dispatchers(connection: AsyncConnection, ranks: Iterable[int]) -> None:
    """Wait until the dispatchers of these priorities have committed, and keep others waiting until this commits."""
    for rank in ranks:
        await connection.execute(dispatch_sql.LOCK_PRIORITY, {"lock": dispatch_sql.LOCK_CLASS, "priority": rank})


def _pieces(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + sql.MOST_ROWS] for start in range(0, len(ids), sql.MOST_ROWS))
