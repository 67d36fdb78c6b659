"""Fills a stack's tables by SQL with what would take too long to post: a backlog, a deep inbox, years of history.

What it leaves is what the stack itself would have written: every number of an inbox is there, `last_seq`, `unread` and
`unseen` are what a count finds, and every delivery and outbox row has its notification. The planner is told of it at
once; autovacuum would take a minute.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from models.database import transaction
from ops.bench.endpoint import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.bench.endpoint import Backstage

_CHUNK = 50_000
_SORTABLE_IDS_FROM = 18_00_00  # the server version that has uuidv7()
TYPE = "bench.order.shipped"
DOMAINS = ("shop", "tasks", "blog", "booking", "social")
RARE = "rare"
RARE_EVERY = 10_000  # so rarely does a delivery of the domain RARE come

_CONTENT = "INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience, created_at)"
_TEXTS = "'Order shipped', 'Your order is on its way.'"

_BACKLOG = """
WITH written AS (
    {content}
    SELECT {id}, %(tenant)s, %(type)s, split_part(%(type)s, '.', 1), 3, {texts},
           json_build_object('stream', %(stream)s::text, 'number', g),
           jsonb_build_object('user', %(prefix)s::text || g %% %(users)s), clock_timestamp()
    FROM generate_series(%(first)s::int, %(last)s::int) AS g
    RETURNING id
)
INSERT INTO outbox (notification_id, priority, due_at) SELECT id, 3, clock_timestamp() FROM written
"""

_INBOX = """
INSERT INTO inbox (tenant, user_id, last_seq, acked_seq, unread, unseen)
VALUES (%(tenant)s, %(user)s, %(count)s, %(count)s, %(count)s - %(read)s, %(count)s - %(seen)s)
RETURNING id
"""

_DELIVERIES = """
WITH made AS MATERIALIZED (
    SELECT g AS seq, {id} AS id, CASE WHEN g %% {rare_every} = 1 THEN '{rare}'
           ELSE ('{{{domains}}}'::text[])[1 + g %% {domain_count}] END AS domain
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS g
), written AS (
    {content}
    SELECT id, %(tenant)s, domain || '.order.shipped', domain, 2, {texts},
           json_build_object('number', seq), jsonb_build_object('user', %(user)s::text), clock_timestamp()
    FROM made
)
INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority, seen_at, read_at, archived_at)
SELECT %(inbox)s, seq, id, domain, domain || '.order.shipped', 2,
       CASE WHEN seq <= %(seen)s THEN now() END, CASE WHEN seq <= %(read)s THEN now() END,
       CASE WHEN seq <= %(archived)s THEN now() END
FROM made
"""

_INBOXES = """
INSERT INTO inbox (tenant, user_id, last_seq, acked_seq)
SELECT %(tenant)s, %(prefix)s::text || g, %(each)s, %(each)s FROM generate_series(0, %(users)s::int - 1) AS g
RETURNING id
"""

_HISTORY = """
WITH made AS MATERIALIZED (
    SELECT box, {id} AS id FROM unnest(%(boxes)s::bigint[]) AS box
), written AS (
    {content}
    SELECT id, %(tenant)s, %(type)s, split_part(%(type)s, '.', 1), 2, {texts},
           json_build_object('number', %(seq)s::bigint), jsonb_build_object('user', %(prefix)s::text || box), now()
    FROM made
)
INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority, seen_at, read_at)
SELECT box, %(seq)s, id, split_part(%(type)s, '.', 1), %(type)s, 2, now(), now() FROM made
"""

_SUBSCRIBERS = """
INSERT INTO topic_subscription (tenant, topic, user_id)
SELECT %(tenant)s, %(topic)s, %(prefix)s::text || g FROM generate_series(%(first)s::int, %(last)s::int) AS g
"""
_RECIPIENTS = "SELECT count(*), count(DISTINCT inbox_id) FROM delivery WHERE notification_id = %(id)s::uuid"
_IS_DISPATCHED = "SELECT NOT EXISTS (SELECT 1 FROM outbox WHERE notification_id = %(id)s::uuid)"
_LOW_LEFT = "SELECT count(*) FROM outbox WHERE priority = 3"
_ANY_LOW_LEFT = "SELECT EXISTS (SELECT 1 FROM outbox WHERE priority = 3)"
_DROP_LOW = "DELETE FROM outbox WHERE priority = 3"
_OF_PREFIX = """
SELECT count(*), count(DISTINCT d.notification_id),
       (SELECT coalesce(sum(last_seq), 0) FROM inbox WHERE tenant = %(tenant)s AND starts_with(user_id, %(prefix)s))
FROM inbox i JOIN delivery d ON d.inbox_id = i.id
WHERE i.tenant = %(tenant)s AND starts_with(i.user_id, %(prefix)s)
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """An inbox's size, and up to which number its deliveries are archived, read and seen, in ascending order."""

    count: int
    archived: int = 0
    read: int = 0
    seen: int = 0


class Filler:
    """One connection to a stack's Postgres. Everything here blocks."""

    def __init__(self, backstage: Backstage, connection: psycopg.Connection[Any]) -> None:
        self._tenant = backstage.tenant
        self._connection = connection
        sortable = connection.info.server_version >= _SORTABLE_IDS_FROM
        self._words = {
            "id": "uuidv7()" if sortable else "gen_random_uuid()",
            "content": _CONTENT,
            "texts": _TEXTS,
            "rare": RARE,
            "rare_every": RARE_EVERY,
            "domains": ",".join(DOMAINS),
            "domain_count": len(DOMAINS),
        }

    def backlog(self, count: int, *, users: int, prefix: str, stream: str) -> None:
        """Let `count` low notifications wait, round and round for `users`: none is visible before all are there."""
        statement = _BACKLOG.format(**self._words)
        whole = {"tenant": self._tenant, "type": TYPE, "prefix": prefix, "users": users, "stream": stream}
        with transaction(self._connection):
            for first in range(0, count, _CHUNK):
                self._run(statement, {**whole, "first": first, "last": min(first + _CHUNK, count) - 1})
            self._run("ANALYZE notification, outbox")

    def inbox(self, user: str, depth: Depth) -> None:
        """Give a new user an inbox of that depth."""
        statement = _DELIVERIES.format(**self._words)
        whole: dict[str, Any] = {"tenant": self._tenant, "user": user, "read": depth.read, "seen": depth.seen}
        with transaction(self._connection):
            (inbox,) = self._row(_INBOX, {**whole, "count": depth.count})
            for first in range(1, depth.count + 1, _CHUNK):
                last = min(first + _CHUNK - 1, depth.count)
                span = {"inbox": inbox, "archived": depth.archived, "first": first, "last": last}
                self._run(statement, {**whole, **span})

    def history(self, each: int, *, users: int, prefix: str, progress: Callable[[float], None]) -> None:
        """Give each of `users` new users `each` old deliveries, in the order in which years would have brought them."""
        statement = _HISTORY.format(**self._words)
        whole = {"tenant": self._tenant, "type": TYPE, "prefix": prefix}
        self._run("SET synchronous_commit = off")  # `tidy` makes it durable, before anything is measured
        boxes = [row[0] for row in self._rows(_INBOXES, {**whole, "users": users, "each": each})]
        for seq in range(1, each + 1):
            for first in range(0, users, _CHUNK):
                self._run(statement, {**whole, "seq": seq, "boxes": boxes[first : first + _CHUNK]})
            progress(seq / each)

    def subscribers(self, topic: str, count: int, *, prefix: str) -> None:
        """Subscribe `count` users to a topic."""
        for first in range(0, count, _CHUNK):
            span = {"first": first, "last": min(first + _CHUNK, count) - 1}
            self._run(_SUBSCRIBERS, {"tenant": self._tenant, "topic": topic, "prefix": prefix, **span})
        self._run("VACUUM (ANALYZE) topic_subscription")

    def recipients(self, notification_id: str) -> tuple[int, int]:
        """Return how many deliveries there are of a notification, and in how many inboxes."""
        deliveries, users = self._row(_RECIPIENTS, {"id": notification_id})
        return int(deliveries), int(users)

    def is_dispatched(self, notification_id: str) -> bool:
        """Say whether a notification waits no more."""
        return bool(self._row(_IS_DISPATCHED, {"id": notification_id})[0])

    def tidy(self) -> None:
        """Do now what the server would do within minutes: statistics, visibility, and everything onto the disk."""
        self._run("VACUUM (ANALYZE) notification, outbox, inbox, delivery")
        (may,) = self._row("SELECT pg_has_role(current_user, 'pg_checkpoint', 'USAGE')")
        if may:
            self._run("CHECKPOINT")

    def low_left(self) -> int:
        """Return how many low ones wait in the outbox."""
        return int(self._row(_LOW_LEFT)[0])

    def any_low_left(self) -> bool:
        """Return whether any low ones wait in the outbox; cheap."""
        return bool(self._row(_ANY_LOW_LEFT)[0])

    def drop_low(self) -> int:
        """Take the low ones that wait out of the outbox, and return how many they were."""
        return self._connection.execute(_DROP_LOW).rowcount

    def deliveries(self, prefix: str) -> tuple[int, int, int]:
        """Return how many deliveries the users of a prefix have, of how many notifications, and what they numbered."""
        deliveries, notifications, numbered = self._row(_OF_PREFIX, {"tenant": self._tenant, "prefix": prefix})
        return int(deliveries), int(notifications), int(numbered)

    def _run(self, statement: str, parameters: dict[str, Any] | None = None) -> None:
        self._connection.execute(statement, parameters)

    def _row(self, statement: str, parameters: dict[str, Any] | None = None) -> tuple[Any, ...]:
        return self._rows(statement, parameters)[0]

    def _rows(self, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, parameters).fetchall()


@contextmanager
def filler(backstage: Backstage) -> Iterator[Filler]:
    """Connect for the block. What Postgres says against it becomes a `StackError`."""
    try:
        with psycopg.connect(backstage.database_url, autocommit=True, application_name="bellhop-bench") as connection:
            yield Filler(backstage, connection)
    except psycopg.Error as error:
        msg = f"the stack's Postgres: {error}"
        raise StackError(msg) from error
