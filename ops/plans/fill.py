"""Fills a migrated, empty database with what a busy year leaves behind. Only SQL; no row passes through Python.

Deliveries lie in the table as they arrived, round and round over all inboxes, so that one inbox's rows are scattered
over the whole of it. Besides many shallow inboxes there are two deep ones, with a tenth of all deliveries each:
`u_deep`, in which few rows match a rare filter and the few unread ones are the oldest, and `u_tidy`, whose owner
deleted or archived everything but the five oldest. There are as many rooms, too, one of them deep. Numbers, counts and
contents agree as if the product had written them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.database import Connection

TENANT = "default"
DEEP, TIDY = "u_deep", "u_tidy"
BIG_TABLES = (
    "notification",
    "delivery",
    "outbox",
    "inbox",
    "inbox_change",
    "ack",
    "room",
    "room_event",
    "revocation",
    "presence",
    "topic_subscription",
    "preference",
    "withdrawal",
    "expiry",
    "type",
    "digest",
    "digest_entry",
    "pushed",
)
DEEP_ROOM = "tasks:board:deep"
TOPIC = "blog:post:7"
WIDE_ID = "00000000-0000-7000-8000-00000000f00d"  # the notification with the most recipients
MOST_RECIPIENTS = 1_000
PUSHED_AT = "2026-01-01T00:00:00Z"  # when the first batch was dispatched that is noted
RARE_EVERY = 20_000  # one in so many of the deep inbox's rows has a rare domain, type or priority


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows there are to be. The tables follow from it alone: the same size gives the same rows."""

    deliveries: int = 1_000_000
    inboxes: int = 10_000
    due: int = 100_000
    later: int = 10_000
    keys: int = 1_000

    @classmethod
    def of(cls, deliveries: int) -> Size:
        """Return a size that keeps the proportions of the default one."""
        full = cls()
        part = deliveries / full.deliveries
        return cls(
            deliveries,
            inboxes=max(100, int(full.inboxes * part)),
            due=max(1_000, int(full.due * part)),
            later=max(100, int(full.later * part)),
        )

    @property
    def deep(self) -> int:
        """How many deliveries each of the two deep inboxes has."""
        return self.deliveries // 10

    @property
    def rare_every(self) -> int:
        """As `RARE_EVERY`; in a small set, so that a few are left."""
        return min(RARE_EVERY, self.deep // 4)


# A version 7 UUID for the nth notification: ascending as they are made, like the product's.
_ID = "(lpad(to_hex(1700000000000 + {n}), 12, '0') || '7' || substr(md5(({n})::text), 1, 3) || '8' || substr(md5(({n})::text), 4, 15))::uuid"  # noqa: E501

# g: the order of arrival. nth: the same within its inbox. Every tenth number of an inbox is a change's.
_PLANNED = f"""
CREATE TEMPORARY VIEW planned AS
WITH placed AS (
    SELECT g, CASE g %% 10 WHEN 0 THEN %(inboxes)s + 1 WHEN 1 THEN %(inboxes)s + 2
                           ELSE (g - 2 - g / 10 * 2) %% %(inboxes)s + 1 END AS inbox_id,
           CASE WHEN g %% 10 < 2 THEN g / 10 ELSE (g - 2 - g / 10 * 2) / %(inboxes)s END AS nth,
           CASE WHEN g %% 10 < 2 THEN %(deep)s ELSE greatest(1, %(deliveries)s / 10 * 8 / %(inboxes)s) END AS depth
    FROM generate_series(0::bigint, %(deliveries)s - 1) AS g
)
SELECT g, inbox_id, nth, depth, nth + nth / 9 + 1 AS seq, inbox_id > %(inboxes)s AS deep,
       inbox_id = %(inboxes)s + 2 AS tidy, {_ID.format(n="g")} AS id, now() - (%(deliveries)s - g) * interval '10 s' AS at,
       CASE WHEN inbox_id <= %(inboxes)s OR nth %% %(rare)s <> 5 THEN (ARRAY['shop', 'blog', 'chat', 'bank'])[1 + g / 10 %% 4]
            ELSE 'rare' END AS domain,
       CASE WHEN inbox_id <= %(inboxes)s OR nth %% %(rare)s NOT IN (8, 11) THEN 'order.shipped' ELSE 'order.lost' END AS what,
       CASE WHEN inbox_id <= %(inboxes)s OR nth %% %(rare)s <> 14 THEN 2 + g %% 2 ELSE 0 END AS priority
FROM placed
"""  # noqa: E501

_NOTIFICATIONS = """
INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience, idempotency_key, body_hash,
                          created_at)
SELECT id, %(tenant)s, domain || '.' || what, domain, priority, 'Order ' || g, repeat('On its way. ', 8),
       json_build_object('nth', g), jsonb_build_object('user', 'u_' || inbox_id),
       CASE WHEN g %% 2 = 0 THEN 'key-' || g END, CASE WHEN g %% 2 = 0 THEN sha256(g::text::bytea) END, at
FROM planned
"""

_DELIVERIES = """
INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority, delivered_at, seen_at, read_at,
                      archived_at, deleted_at)
SELECT inbox_id, seq, id, domain, domain || '.' || what, priority, at,
       CASE WHEN tidy OR (deep AND nth >= 30) OR (NOT deep AND nth * 10 < depth * 8) THEN at END,
       CASE WHEN tidy OR (deep AND nth >= 60) OR (NOT deep AND nth * 10 < depth * 7) THEN at END,
       CASE WHEN tidy AND nth >= 5 OR deep AND nth %% %(rare)s = 17 OR NOT deep AND nth %% 20 = 3 THEN at END,
       CASE WHEN tidy AND nth * 2 >= depth OR NOT deep AND nth %% 100 = 50 THEN at END
FROM planned
"""

_WIDE = """
WITH said AS (
    INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience)
    VALUES (%(wide)s, %(tenant)s, 'shop.sale', 'shop', 3, 'Sale', '', '{}', '{"users": []}')
)
INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority)
SELECT inbox_id, max(seq) + 1, %(wide)s, 'shop', 'shop.sale', 3 FROM delivery
WHERE inbox_id <= least(%(inboxes)s, %(most)s) GROUP BY inbox_id
"""

_INBOXES = """
INSERT INTO inbox (id, tenant, user_id, last_seq, acked_seq, unread, unseen)
OVERRIDING SYSTEM VALUE
SELECT inbox_id, %(tenant)s,
       CASE inbox_id - %(inboxes)s WHEN 1 THEN %(deep_user)s WHEN 2 THEN %(tidy_user)s ELSE 'u_' || inbox_id END,
       max(seq), CASE inbox_id %% 2 WHEN 0 THEN max(seq) ELSE max(seq) * 9 / 10 END,
       count(*) FILTER (WHERE read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL),
       count(*) FILTER (WHERE seen_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL)
FROM delivery GROUP BY inbox_id ORDER BY inbox_id
"""

_CHANGES = """
INSERT INTO inbox_change (inbox_id, seq, action, seqs, up_to)
SELECT i.id, s, CASE WHEN s %% 20 = 0 THEN 'seen' ELSE 'read' END,
       CASE WHEN s %% 20 = 0 THEN NULL ELSE ARRAY[s - 1] END, CASE WHEN s %% 20 = 0 THEN s - 1 END
FROM inbox i CROSS JOIN LATERAL generate_series(10::bigint, i.last_seq, 10) AS s
"""

# Ten numbers at a time.
_ACKS = """
INSERT INTO ack (inbox_id, seq, since, at)
SELECT i.id, least(since + 10, i.acked_seq), since, now() - (i.acked_seq - since) * interval '1 s'
FROM inbox i CROSS JOIN LATERAL generate_series(0::bigint, i.acked_seq - 1, 10) AS since
"""

_WAITING = f"""
WITH said AS (
    INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience, idempotency_key,
                              body_hash, deliver_at)
    SELECT {_ID.format(n="g")}, %(tenant)s, 'shop.order.shipped', 'shop', g %% 4, 'Order ' || g,
           repeat('On its way. ', 8), json_build_object('nth', g),
           jsonb_build_object('user', 'u_' || 1 + g %% %(inboxes)s), CASE WHEN g %% 2 = 0 THEN 'key-' || g END,
           CASE WHEN g %% 2 = 0 THEN sha256(g::text::bytea) END,
           CASE WHEN g >= %(deliveries)s + %(due)s THEN now() + (g - %(deliveries)s) * interval '1 s' END
    FROM generate_series(%(deliveries)s, %(deliveries)s + %(due)s + %(later)s - 1) AS g
    RETURNING id, priority, deliver_at
)
INSERT INTO outbox (notification_id, priority, due_at)
SELECT id, priority, coalesce(deliver_at, now() - interval '1 min') FROM said ORDER BY id
"""

_KEYS = """
WITH owner AS (INSERT INTO tenant (id) VALUES (%(tenant)s))
INSERT INTO api_key (id, tenant, name, secret_hash, scopes)
SELECT 'k_' || g, %(tenant)s, 'key ' || g, sha256(g::text::bytea), '{notifications:write}'
FROM generate_series(1, %(keys)s) AS g
"""

_EVENTS = """
INSERT INTO notification_event (notification_id, event, detail)
SELECT id, 'expired', 'too late' FROM planned WHERE g %% 100 = 0
"""

_REVOCATIONS = """
INSERT INTO revocation (tenant, user_id, revoked_at)
SELECT %(tenant)s, 'u_' || g, now() - g * interval '1 min' FROM generate_series(1, %(inboxes)s) AS g
"""

_PRESENCE = """
INSERT INTO presence (tenant, user_id, last_seen_at)
SELECT %(tenant)s, 'u_' || g, now() - g * interval '1 min' FROM generate_series(1, %(inboxes)s) AS g
"""

_SUBSCRIPTIONS = """
INSERT INTO topic_subscription (tenant, topic, user_id)
SELECT %(tenant)s, %(topic)s, 'u_' || g FROM generate_series(1, %(inboxes)s) AS g
UNION ALL
SELECT %(tenant)s, 'blog:post:' || g, 'u_' || g FROM generate_series(8, %(inboxes)s) AS g
"""

_PREFERENCES = """
INSERT INTO preference (tenant, user_id, body)
SELECT %(tenant)s, 'u_' || g,
       '{"mutes": {"domains": [], "types": [], "priorities": ["low"]}, "quiet_hours": null, "locale": null}'
FROM generate_series(1, %(inboxes)s, 3) AS g
"""

# Half of what waits for its time to end is due, and what expired before is on its way out.
_EXPIRIES = """
INSERT INTO expiry (notification_id, priority, expires_at)
SELECT id, priority, now() + (row_number() OVER (ORDER BY id) - %(later)s / 2) * interval '1 s'
FROM planned ORDER BY id LIMIT %(later)s
"""

_WITHDRAWALS = """
INSERT INTO withdrawal (notification_id, cause, withdrawn)
SELECT id, 'expired', 1 FROM planned WHERE g %% 3 = 0
UNION ALL SELECT %(wide)s, 'expired', 0
"""

_TYPES = """
INSERT INTO type (tenant, name, body, updated_at)
SELECT %(tenant)s, 'shop.order.' || g,
       '{"priority": "normal", "schema": null, "templates": {}, "ttl_s": null, "mutable": true, "digest": null}',
       now() - g * interval '1 min'
FROM generate_series(1, %(inboxes)s) AS g
"""

# For each inbox one digest that is open, with a few entries, and two that closed; the deep one's are full.
_DIGESTS = """
INSERT INTO digest (tenant, user_id, type, key, opened_at, closes_at, closed_at, notification_id)
SELECT tenant, user_id, 'shop.order.shipped', '', now() - g * interval '1 h', now() + (id %% 3600 - g * 3600) * interval '1 s',
       CASE WHEN g > 0 THEN now() - g * interval '1 h' END,
       CASE WHEN g > 0 THEN (SELECT notification_id FROM delivery WHERE inbox_id = i.id ORDER BY seq LIMIT 1) END
FROM inbox i CROSS JOIN generate_series(0, 2) AS g ORDER BY g, id
"""  # noqa: E501

_DIGEST_ENTRIES = """
INSERT INTO digest_entry (digest_id, notification_id)
SELECT d.id, e.notification_id
FROM digest d JOIN inbox i ON i.tenant = d.tenant AND i.user_id = d.user_id
CROSS JOIN LATERAL (
    SELECT notification_id FROM delivery WHERE inbox_id = i.id ORDER BY seq
    LIMIT CASE WHEN i.user_id = %(deep_user)s THEN 100 ELSE 3 END
) e
UNION ALL
SELECT id, %(wide)s FROM digest WHERE closed_at IS NULL
"""

# Of each hundred deliveries, every tenth was pushed, and to two nodes. Every hundredth batch was of one broadcast.
_PUSHED = """
INSERT INTO pushed (dispatched_at, priority, node, at, notification_id, users, stretches)
SELECT %(pushed_at)s::timestamptz + b.nth * interval '10 ms', 2, node, now(), CASE WHEN b.nth %% 100 = 0 THEN %(wide)s::uuid END,
       b.users, b.stretches
FROM (
    SELECT g / 100 AS nth, count(*) AS users, json_agg(json_build_array(inbox_id, seq, seq)) AS stretches
    FROM planned WHERE g %% 10 = 2 GROUP BY g / 100
) b CROSS JOIN unnest('{a:8001:00000001,b:8001:00000002}'::text[]) AS node
"""  # noqa: E501

# As many rooms as inboxes, a few events each; the deep one has a hundredth of all deliveries and is due to be trimmed.
_ROOMS = """
INSERT INTO room (tenant, name, last_seq, floor_seq, keep_events, keep_s, trim_at)
SELECT %(tenant)s, 'shop:order:' || g, 10 + g %% 10, g %% 10, 1000, 604800, now() + g * interval '1 s'
FROM generate_series(1, %(inboxes)s) AS g
UNION ALL
SELECT %(tenant)s, %(deep_room)s, greatest(100, %(deliveries)s / 100), 0, 50, 604800, now() - interval '1 s'
"""

_ROOM_EVENTS = """
INSERT INTO room_event (room_id, seq, event, data, at, idempotency_key, body_hash)
SELECT r.id, s, 'order.updated', json_build_object('nth', s), now() - (r.last_seq - s) * interval '1 s',
       CASE WHEN s %% 2 = 0 THEN 'key-' || s END, CASE WHEN s %% 2 = 0 THEN sha256(s::text::bytea) END
FROM room r CROSS JOIN LATERAL generate_series(r.floor_seq + 1, r.last_seq) AS s
"""

_STEPS = {
    "planned": _PLANNED,
    "notification": _NOTIFICATIONS,
    "delivery": _DELIVERIES,
    "delivery, one to many": _WIDE,
    "inbox": _INBOXES,
    "inbox_change": _CHANGES,
    "ack": _ACKS,
    "outbox": _WAITING,
    "api_key": _KEYS,
    "notification_event": _EVENTS,
    "revocation": _REVOCATIONS,
    "presence": _PRESENCE,
    "topic_subscription": _SUBSCRIPTIONS,
    "preference": _PREFERENCES,
    "expiry": _EXPIRIES,
    "withdrawal": _WITHDRAWALS,
    "type": _TYPES,
    "digest": _DIGESTS,
    "digest_entry": _DIGEST_ENTRIES,
    "pushed": _PUSHED,
    "room": _ROOMS,
    "room_event": _ROOM_EVENTS,
    "identities": "SELECT setval(pg_get_serial_sequence('inbox', 'id'), %(inboxes)s + 2)",
}


def fill(database_url: str, size: Size, *, say: Callable[[str], None] = lambda _: None) -> None:
    """Fill the migrated, empty database; `say` hears what is being filled. Statistics are left as they were."""
    parameters: dict[str, Any] = {
        **{name: getattr(size, name) for name in ("deliveries", "inboxes", "due", "later", "keys", "deep")},
        "rare": size.rare_every,
        "tenant": TENANT,
        "topic": TOPIC,
        "wide": WIDE_ID,
        "most": MOST_RECIPIENTS,
        "pushed_at": PUSHED_AT,
        "deep_user": DEEP,
        "deep_room": DEEP_ROOM,
        "tidy_user": TIDY,
    }
    # Not opened as the product does: what it switches off there would make filling slow. A view takes no parameters
    # from outside, hence a cursor that writes them into the text.
    with psycopg.connect(
        database_url, autocommit=True, cursor_factory=psycopg.ClientCursor, options="-c synchronous_commit=off"
    ) as connection:
        for name, statement in _STEPS.items():
            say(f"filling: {name}")
            connection.execute(statement, parameters)


def tidy_up(database_url: str) -> None:
    """Do what autovacuum does after a while: collect statistics, note which pages everyone may see."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def row_counts(connection: Connection) -> dict[str, int]:
    """Return how many rows the tables of interest hold, counted."""
    counts = {}
    for table in (*BIG_TABLES, "notification_event", "api_key"):
        (row,) = connection.execute(f"SELECT count(*) AS n FROM {table}").fetchall()
        counts[table] = int(row["n"])
    return counts
