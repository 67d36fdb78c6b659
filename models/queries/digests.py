"""Stage 3, where a type has a digest: entries gather in one open batch for each user, type and key, until it closes.

A digest's row is locked before its entries are added, read or taken out, and after the inboxes, in the order of tenant,
user, type and key. One that has closed stays as it is: no statement writes to a row whose `closed_at` is set.
"""

from functools import cache

from models import states
from models.queries.dispatch import advance, next_users

# Whoever comes while one closes waits for that, and then finds no open one: a new one is opened.
_OPEN_OR_LOCK = """
    ON CONFLICT (tenant, user_id, type, key) WHERE closed_at IS NULL DO UPDATE SET closes_at = d.closes_at"""

# Where rows are found by their ids, `closed_at IS NULL` would tempt a plan from when the table was empty to walk the
# index of all that are open.
_IS_OPEN = "coalesce({}closed_at, 'infinity') = 'infinity'"

GATHER = f"""
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(entries)s::json) AS r(
        nth int, tenant text, user_id text, type text, key text, closes_at timestamptz, notification_id uuid)
), opened AS (
    INSERT INTO digest AS d (tenant, user_id, type, key, closes_at)
    SELECT DISTINCT ON (tenant, user_id, type, key) tenant, user_id, type, key, closes_at FROM input
    ORDER BY tenant, user_id, type, key, nth{_OPEN_OR_LOCK}
    RETURNING id, tenant, user_id, type, key
)
INSERT INTO digest_entry (digest_id, notification_id)
SELECT o.id, i.notification_id FROM input i JOIN opened o USING (tenant, user_id, type, key)
ORDER BY i.nth
"""


@cache
def gather_broadcast(limit: int, *, everyone: bool) -> str:
    """Return the statement that adds a broadcast to the digests of the next users: what `fan_out` is for inboxes."""
    return f"""
WITH chosen AS MATERIALIZED ({next_users(limit, everyone=everyone)}
), muted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(muted)s::json) AS m(user_id text, rule text)
), opened AS (
    INSERT INTO digest AS d (tenant, user_id, type, key, closes_at)
    SELECT %(tenant)s, user_id, %(type)s, %(key)s, %(closes_at)s FROM chosen c
    WHERE user_id <> %(excluded)s AND NOT EXISTS (SELECT 1 FROM muted m WHERE m.user_id = c.user_id)
    ORDER BY user_id{_OPEN_OR_LOCK}
    RETURNING id
), gathered AS (
    INSERT INTO digest_entry (digest_id, notification_id) SELECT id, %(id)s::uuid FROM opened
{advance(limit, "opened")}
SELECT (SELECT done FROM progress) AS done, (SELECT count(*) FROM opened) AS gathered,
       (SELECT count(*) FROM muted JOIN chosen USING (user_id)) AS suppressed
"""


# --- closing ---------------------------------------------------------------------------------------------------------

# What was cancelled for very many leaves their digests bit by bit; one that has it still does not close before.
_NOTHING_LEAVES_IT = """NOT EXISTS (
      SELECT 1 FROM withdrawal w
      CROSS JOIN LATERAL (
          SELECT 1 FROM digest_entry WHERE notification_id = w.notification_id AND digest_id = d.id LIMIT 1
      ) e
      WHERE NOT w.counted AND w.at <= now()
  )"""


@cache
def lock_due(limit: int) -> str:
    """Return the statement that locks the first `limit` that are to close; one that somebody adds to is for later."""
    return f"""
SELECT id FROM digest d WHERE closed_at IS NULL AND closes_at <= now() AND {_NOTHING_LEAVES_IT}
ORDER BY closes_at LIMIT {limit:d}
FOR UPDATE OF d SKIP LOCKED
"""


@cache
def open_of_user(limit: int, *, lock: bool) -> str:
    """Return the statement that finds a user's open ones, the first `limit`, of these domains where there are any."""
    return f"""
SELECT id FROM digest d
WHERE tenant = %(tenant)s AND user_id = %(user)s AND closed_at IS NULL
  AND (%(domains)s::text[] IS NULL OR split_part(type, '.', 1) = ANY(%(domains)s)) AND {_NOTHING_LEAVES_IT}
ORDER BY tenant, user_id, type, key LIMIT {limit:d}
{"FOR UPDATE OF d" if lock else ""}
"""


@cache
def read_digests(limit: int) -> str:
    """Return the statement that reads digests with their first `limit` entries, and the newest.

    It comes after the lock, and so sees all that was added before. What has expired is left out.
    """
    return f"""
SELECT d.id AS digest_id, d.tenant, d.user_id, d.type, d.key, d.opened_at, d.closes_at, p.locale,
       e.count, e.most_urgent, e.last_expires_at, e.id, e.domain, e.title, e.body, e.texts, e.mutable, e.data,
       e.action_url, e.actor, e.created_at
FROM unnest(%(digests)s::bigint[]) WITH ORDINALITY AS a(id, ord)
CROSS JOIN LATERAL (SELECT * FROM digest WHERE id = a.id LIMIT 1) d
LEFT JOIN LATERAL (
    SELECT coalesce(body ->> 'locale', token_locale) AS locale
    FROM preference WHERE tenant = d.tenant AND user_id = d.user_id LIMIT 1
) p ON true
LEFT JOIN LATERAL (
    SELECT l.position, l.count, l.most_urgent, l.last_expires_at, n.id::text AS id, n.domain, n.title, n.body, n.texts,
           n.mutable, n.data::text AS data, n.action_url, n.actor, n.created_at
    FROM (
        SELECT w.position, w.notification_id, row_number() OVER (ORDER BY w.position) AS nth, count(*) OVER () AS count,
               min(k.priority) OVER () AS most_urgent,
               CASE WHEN count(k.expires_at) OVER () = count(*) OVER () THEN max(k.expires_at) OVER () END
                   AS last_expires_at
        FROM digest_entry w
        CROSS JOIN LATERAL (
            SELECT priority, expires_at FROM notification WHERE id = w.notification_id LIMIT 1
        ) k
        WHERE w.digest_id = d.id AND (k.expires_at IS NULL OR k.expires_at > now())
    ) l
    CROSS JOIN LATERAL (SELECT * FROM notification WHERE id = l.notification_id LIMIT 1) n
    WHERE l.nth <= {limit:d} OR l.nth = l.count
) e ON true
ORDER BY a.ord, e.position
"""


CLOSE_IF_OPEN = f"""
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(digests)s::json) AS r(
        digest_id bigint, id uuid, tenant text, type text, domain text, priority smallint, title text, body text,
        texts jsonb, mutable boolean, data json, audience jsonb, actor jsonb, action_url text, expires_at timestamptz)
), closed AS (
    UPDATE digest d SET closed_at = now(), notification_id = i.id
    FROM input i WHERE d.id = ANY(ARRAY(SELECT digest_id FROM input)) AND d.id = i.digest_id
      AND {_IS_OPEN.format("d.")}
    RETURNING d.id, d.user_id, d.notification_id
), left_out AS (
    DELETE FROM digest_entry e USING closed c, notification n
    WHERE e.digest_id = c.id AND n.id = e.notification_id AND n.expires_at <= now()
    RETURNING e.notification_id, c.user_id
), suppressed AS (
    INSERT INTO suppression (notification_id, user_id, rule)
    SELECT notification_id, user_id, '{states.EXPIRED_IN_DIGEST}' FROM left_out
), written AS (
    INSERT INTO notification (id, tenant, type, domain, priority, title, body, texts, mutable, data, audience, actor,
                              action_url, expires_at)
    SELECT i.id, tenant, type, domain, priority, title, body, texts, mutable, data, audience, actor, action_url,
           expires_at
    FROM input i JOIN closed c ON c.notification_id = i.id
), ends AS (
    INSERT INTO expiry (notification_id, priority, expires_at)
    SELECT i.id, priority, expires_at FROM input i JOIN closed c ON c.notification_id = i.id
    WHERE i.expires_at IS NOT NULL
)
INSERT INTO outbox (notification_id, priority)
SELECT i.id, priority FROM input i JOIN closed c ON c.notification_id = i.id ORDER BY i.digest_id
"""

# --- cancelling ------------------------------------------------------------------------------------------------------


@cache
def digests_of(limit: int) -> str:
    """Return the statement that finds the next digests that have a notification, in the order of ids."""
    return f"""
SELECT digest_id AS id FROM digest_entry WHERE notification_id = %(id)s AND digest_id > %(after)s
ORDER BY digest_id LIMIT {limit:d}
"""


# A statement of its own, before TAKE_OUT_OF_DIGESTS, which then sees which of them have closed.
LOCK_DIGESTS = f"""
SELECT id FROM digest WHERE id = ANY(%(digests)s::bigint[]) AND {_IS_OPEN.format("")}
ORDER BY tenant, user_id, type, key
FOR UPDATE
"""

TAKE_OUT_OF_DIGESTS = """
WITH waiting AS MATERIALIZED (
    SELECT e.digest_id, d.closed_at IS NULL AS open
    FROM digest_entry e CROSS JOIN LATERAL (SELECT closed_at FROM digest WHERE id = e.digest_id LIMIT 1) d
    WHERE e.notification_id = %(id)s AND e.digest_id = ANY(%(digests)s::bigint[])
), gone AS (
    DELETE FROM digest_entry
    WHERE notification_id = %(id)s AND digest_id = ANY(ARRAY(SELECT digest_id FROM waiting WHERE open))
)
SELECT count(*) FILTER (WHERE open) AS waiting, count(*) FILTER (WHERE NOT open) AS arrived FROM waiting
"""
