"""What must be true of the database when nothing moves any more, whatever died on the way there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from models.audit import audit
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

# Each gives no row where all is well.
NUMBERS_WITH_GAPS = """
SELECT i.user_id, i.last_seq, l.numbers
FROM inbox i
CROSS JOIN LATERAL (
    SELECT array_agg(seq ORDER BY seq) AS numbers
    FROM (SELECT seq FROM delivery WHERE inbox_id = i.id UNION ALL SELECT seq FROM inbox_change WHERE inbox_id = i.id) s
) l
WHERE l.numbers IS DISTINCT FROM ARRAY(SELECT generate_series(1, i.last_seq))
"""
COUNTERS_THAT_ARE_WRONG = """
SELECT i.user_id, i.unread, i.unseen, c.unread AS counted_unread, c.unseen AS counted_unseen
FROM inbox i
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE read_at IS NULL) AS unread, count(*) FILTER (WHERE seen_at IS NULL) AS unseen
    FROM delivery WHERE inbox_id = i.id AND archived_at IS NULL AND deleted_at IS NULL
) c
WHERE (i.unread, i.unseen) <> (c.unread, c.unseen)
"""
# A place in a digest is as good as a delivery. What was cancelled before it reached everybody is counted by its test.
NOT_DELIVERED_ONCE_TO_EACH = """
SELECT n.id, n.audience, cardinality(d.users) AS reached, cardinality(a.users) AS meant
FROM notification n
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(r.user_id ORDER BY r.user_id), '{}') AS users
    FROM (
        SELECT i.user_id FROM delivery d JOIN inbox i ON i.id = d.inbox_id AND i.tenant = n.tenant
        WHERE d.notification_id = n.id
        UNION ALL
        SELECT g.user_id FROM digest_entry e JOIN digest g ON g.id = e.digest_id WHERE e.notification_id = n.id
    ) r
) d
CROSS JOIN LATERAL (
    SELECT CASE WHEN n.audience ? 'user' THEN ARRAY[n.audience ->> 'user']
                WHEN n.audience ? 'topic' THEN ARRAY(
                    SELECT user_id FROM topic_subscription s
                    WHERE s.tenant = n.tenant AND s.topic = n.audience ->> 'topic' ORDER BY 1)
                ELSE ARRAY(SELECT jsonb_array_elements_text(n.audience -> 'users') ORDER BY 1) END AS users
) a
WHERE d.users <> a.users
  AND NOT EXISTS (SELECT 1 FROM withdrawal w WHERE w.notification_id = n.id AND w.cancelled > 0)
"""
NOT_LISTED_AS_GATHERED = """
SELECT g.id, g.user_id, e.ids, n.data
FROM digest g
LEFT JOIN notification n ON n.id = g.notification_id
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(notification_id ORDER BY position), '[]') AS ids FROM digest_entry WHERE digest_id = g.id
) e
WHERE g.closed_at IS NOT NULL
  AND e.ids <> coalesce(jsonb_path_query_array(n.data::jsonb, '$.items[*].id'), '[]')
"""
DISPATCHED_IN_ANOTHER_ORDER = """
SELECT user_id, ids FROM (
    SELECT i.user_id, array_agg(d.notification_id ORDER BY d.seq) AS ids,
           array_agg(d.notification_id ORDER BY n.created_at, n.id) AS accepted
    FROM delivery d JOIN inbox i ON i.id = d.inbox_id JOIN notification n ON n.id = d.notification_id
    GROUP BY i.user_id, d.priority
) o
WHERE ids <> accepted
"""
WRONG = {
    "numbers have gaps": NUMBERS_WITH_GAPS,
    "counters are not COUNT(*)": COUNTERS_THAT_ARE_WRONG,
    "not delivered exactly once to each of its users": NOT_DELIVERED_ONCE_TO_EACH,
    "a digest does not list what is in it": NOT_LISTED_AS_GATHERED,
    "not in the order in which it was accepted": DISPATCHED_IN_ANOTHER_ORDER,
    "still in the outbox": "SELECT * FROM outbox",
    "parked": "SELECT * FROM parked",
}


class Truth:
    """What Postgres says."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self._database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(statement, parameters or None).fetchall()

    async def adds_up(self) -> None:
        """Wait until nothing is left to dispatch, then look at everything."""
        await eventually(lambda: not self.rows("SELECT 1 FROM outbox LIMIT 1"), 40)
        assert {what: rows for what, statement in WRONG.items() if (rows := self.rows(statement))} == {}

        assert audit(self._database_url, 10).some == ()

    def deliveries(self, users: Iterable[str]) -> list[dict[str, Any]]:
        """Return the deliveries of these users, with the unix time `at` which their transactions began."""
        statement = """
            SELECT i.user_id, d.seq, d.notification_id::text AS id, extract(epoch FROM d.delivered_at)::float AS at
            FROM delivery d JOIN inbox i ON i.id = d.inbox_id WHERE i.user_id = ANY(%s) ORDER BY 1, 2
        """
        return self.rows(statement, list(users))

    def changes(self, user: str) -> list[dict[str, Any]]:
        """Return the changes of a user's inbox."""
        statement = """
            SELECT c.seq, c.action, c.seqs, extract(epoch FROM c.at)::float AS at
            FROM inbox_change c JOIN inbox i ON i.id = c.inbox_id WHERE i.user_id = %s ORDER BY 1
        """
        return self.rows(statement, user)

    def head(self, user: str) -> int:
        """Return the last number of a user's inbox."""
        return sum(row["last_seq"] for row in self.rows("SELECT last_seq FROM inbox WHERE user_id = %s", user))

    def run(self, statement: str, *parameters: Any) -> None:
        """Change something, as time or an operator would."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(statement, parameters or None)

    def notifications(self, key: str) -> list[dict[str, Any]]:
        """Return the notifications that were sent with an idempotency key."""
        return self.rows("SELECT id::text FROM notification WHERE idempotency_key = %s", key)
