"""What users do with their inbox, from REST and from sockets alike: read pages, act, and let other devices know.

An action is one transaction that numbers its change; the push to other devices comes after the commit and may fail.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis.asyncio
import structlog

from models import frames, telemetry
from models.batching import Batcher
from models.pages import InboxPage, grouped
from models.push import Publisher, change_push
from models.queries import inbox as sql
from models.redis_keys import user_key
from models.states import Action, ListStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from models.contracts import InboxQuery
    from models.database import Database

log = structlog.get_logger(__name__)

_BATCH = 256  # heads in one query
_ROWS = 5_000  # log entries in one query
_PUSH_BUDGET_S = 0.5  # the user waits for it; a push that fails is repaired


@dataclass(frozen=True, slots=True)
class Done:
    """The inbox after an action."""

    seq: int
    changed: int
    unread: int
    unseen: int

    def as_json(self) -> bytes:
        """Return an ActionOut's JSON."""
        return b'{"seq":%d,"changed":%d,"counts":%b}' % (
            self.seq,
            self.changed,
            frames.counts(self.unread, self.unseen),
        )


@dataclass(frozen=True, slots=True)
class Head:
    """Where an inbox stands. `inbox` is its row's id; 0 where nobody has written to it."""

    inbox: int
    head: int
    floor: int
    unread: int
    unseen: int


class InboxStore:
    """All reads and actions on inboxes. Concurrent reads of heads and of log pages share one query."""

    def __init__(self, database: Database, client: redis.asyncio.Redis) -> None:
        self._database = database
        self._publisher = Publisher(client)
        self.head = Batcher[tuple[str, str], Head](self.heads, limit=_BATCH, lanes=2)
        self._page = Batcher[tuple[str, str, int, int], InboxPage](
            self._pages, limit=_ROWS, lanes=2, weight=lambda asked: asked[3]
        )

    async def heads(self, users: Sequence[tuple[str, str]]) -> list[Head]:
        """Return where the inboxes of `(tenant, user)`s stand, in one query and in that order."""
        asked = [{"ord": nth, "tenant": tenant, "user_id": user} for nth, (tenant, user) in enumerate(users)]
        rows = await self._database.rows(sql.HEADS, {"asked": frames.dumps(asked).decode()})
        found: list[Head] = [Head(0, 0, 0, 0, 0)] * len(users)
        for row in rows:
            found[row["ord"]] = Head(row["inbox"], row["head"], row["floor"], row["unread"], row["unseen"])
        return found

    async def page(self, tenant: str, user: str, since: int, size: int) -> InboxPage:
        """Return the numbers after `since`, at most `size` of them. Raises `UnavailableError`."""
        return await self._page((tenant, user, since, size))

    async def _pages(self, asked: Sequence[tuple[str, str, int, int]]) -> list[InboxPage]:
        questions = [
            {"ord": nth, "tenant": tenant, "user_id": user, "since": since, "size": size}
            for nth, (tenant, user, since, size) in enumerate(asked)
        ]
        rows = await self._database.rows(sql.LOG_PAGES, {"asked": frames.dumps(questions).decode()})
        return [
            InboxPage(since, size, found)
            for (_, _, since, size), found in zip(asked, grouped(len(asked), rows), strict=True)
        ]

    async def list_page(
        self, tenant: str, user: str, query: InboxQuery, domains: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Return the rows of a list, one more than asked for where there are more; of `domains` only, if there are."""
        statement = sql.list_deliveries(
            query.status,
            domain=query.domain is not None,
            type_=query.type is not None,
            priority=query.priority is not None,
            before=query.before is not None,
            domains=bool(domains),
        )
        parameters = {
            "tenant": tenant,
            "user": user,
            "domain": query.domain,
            "type": query.type,
            "priority": query.priority.rank if query.priority else None,
            "before": query.before,
            "limit": query.limit + 1,
            "domains": list(domains),
        }
        return await self._database.rows(statement, parameters)

    async def one(self, tenant: str, user: str, seq: int) -> dict[str, Any] | None:
        """Return one delivery's row, or None where there is none that the user can see."""
        rows = await self._database.rows(_ONE, {"tenant": tenant, "user": user, "seq": seq, "limit": 1})
        return rows[0] if rows and rows[0]["seq"] is not None else None

    async def counts_by_domain(self, tenant: str, user: str) -> list[dict[str, Any]]:
        """Return what is unread and unseen, by domain; one row without a domain where nothing is."""
        return await self._database.rows(sql.COUNTS_BY_DOMAIN, {"tenant": tenant, "user": user})

    async def act(
        self, tenant: str, user: str, actions: Sequence[Action], *, seqs: Sequence[int] | None, up_to: int | None
    ) -> Done:
        """Do `actions` to the deliveries in `seqs`, or to all up to `up_to`, in one transaction.

        `changed` counts the deliveries that the last effective action changed. Raises `UnavailableError`.
        """
        statements = sql.ACT_ON_SEQS if up_to is None else sql.ACT_UP_TO
        whose = {"tenant": tenant, "user": user}
        changes: list[dict[str, Any]] = []
        done = Done(0, 0, 0, 0)
        async with self._database.transaction() as connection:
            await connection.execute(sql.LOCK_INBOX, whose)
            for action in actions:
                cursor = await connection.execute(
                    statements[action],
                    {**whose, "seqs": list(seqs or ()), "up_to": up_to, "action": str(action)},
                )
                row = await cursor.fetchone()
                if row is None:
                    break
                done = Done(row["seq"], max(row["changed"], done.changed), row["unread"], row["unseen"])
                if row["changed"]:
                    changes.append({**row, "action": str(action)})
        await self._tell_devices(tenant, user, changes)
        return done

    async def _tell_devices(self, tenant: str, user: str, changes: Sequence[dict[str, Any]]) -> None:
        pushes = [change_push(user_key(tenant, user), row) for row in changes]
        if not pushes:
            return
        try:
            async with asyncio.timeout(_PUSH_BUDGET_S):
                await self._publisher.publish(pushes)
        except (redis.RedisError, OSError, TimeoutError) as error:
            telemetry.push_failures.inc()
            log.warning("push failed; the socket nodes will repair it", error=str(error))


_ONE = sql.list_deliveries(ListStatus.ALL, domain=False, type_=False, priority=False, before=False, one=True)
