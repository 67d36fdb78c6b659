"""Stage 3: dispatch. Lock the priority, claim a batch, number the inboxes, write deliveries, delete the outbox rows.

All of it is one transaction, so a worker killed anywhere leaves either everything or nothing.
"""

from functools import cache

from models.queries.preferences import says_something

# One dispatcher per priority at a time: what was accepted first is numbered first. Freed by the commit.
LOCK_PRIORITY = "SELECT pg_advisory_xact_lock(%(lock)s, %(priority)s)"
LOCK_CLASS = 0x62656C6C  # "bell": keeps our advisory locks apart from other programs' in the same database

WAIT_LITTLE_FOR_LOCKS = "SET LOCAL lock_timeout = '100ms'"


@cache
def claim_due(limit: int) -> str:
    """Return the statement that locks the first `limit` due rows of a priority and reads what they are about.

    The limit is part of the text, and the rows are claimed before they are joined: a plan for any limit would sort the
    whole outbox as soon as that is long.
    """
    return f"""
WITH due AS MATERIALIZED (
    SELECT position, notification_id, attempts, due_at, withdraws
    FROM outbox
    WHERE priority = %(priority)s AND due_at <= now()
    ORDER BY due_at, position
    LIMIT {limit:d}
    FOR UPDATE SKIP LOCKED
)
SELECT o.position, o.attempts, o.due_at, o.withdraws, now() AS now, n.id::text AS id,
       n.tenant, n.type, n.domain, n.title, n.body, n.texts, n.mutable, n.critical_overrides,
       n.data::text AS data, n.audience, n.actor::text AS actor, n.action_url, n.collapse_key, n.expires_at,
       n.created_at, greatest(n.deliver_at, n.created_at) AS said_at, n.digest_every, n.digest_key
FROM due o
LEFT JOIN LATERAL (SELECT * FROM notification WHERE id = o.notification_id LIMIT 1) n ON true
ORDER BY o.due_at, o.position
"""


# Of what was erased, or is no longer kept, while its end came.
DELETE_ORPHANS = "DELETE FROM outbox WHERE position = ANY(%(positions)s)"


DELIVER = """
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS r(
        tenant text, user_id text, nth int, notification_id uuid, domain text, type text, silent boolean,
        locale text, collapse_key text, collapsed int)
), per_user AS MATERIALIZED (
    SELECT tenant, user_id, count(*) AS n FROM input GROUP BY tenant, user_id
), bumped AS (
    INSERT INTO inbox AS i (tenant, user_id, last_seq, unread, unseen)
    SELECT tenant, user_id, n, n, n FROM per_user
    ORDER BY tenant, user_id  -- every writer locks inboxes in this order, or gives way: no deadlock
    ON CONFLICT (tenant, user_id) DO UPDATE
    SET last_seq = i.last_seq + excluded.last_seq, unread = i.unread + excluded.unread,
        unseen = i.unseen + excluded.unseen
    RETURNING i.id, i.tenant, i.user_id, i.last_seq, i.unread, i.unseen
), delivered AS (
    INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority, silent, locale, collapse_key,
                          collapsed)
    SELECT b.id, b.last_seq - p.n + r.nth, r.notification_id, r.domain, r.type, %(priority)s, r.silent, r.locale,
           r.collapse_key, r.collapsed
    FROM input r
    JOIN per_user p USING (tenant, user_id)
    JOIN bumped b USING (tenant, user_id)
), done AS (
    DELETE FROM outbox WHERE position = ANY(%(positions)s)
)
SELECT id, tenant, user_id, last_seq, unread, unseen FROM bumped
"""

_SUBSCRIBED = """
    SELECT user_id FROM topic_subscription
    WHERE tenant = %(tenant)s AND topic = %(topic)s AND subscribed_at <= %(due_at)s"""
_WITH_AN_INBOX = """
    SELECT user_id FROM inbox
    WHERE tenant = %(tenant)s
      AND created_at <= coalesce((SELECT started_at FROM broadcast WHERE notification_id = %(id)s::uuid), now())"""


@cache
def next_users(limit: int, *, everyone: bool) -> str:
    """Return the statement that names whom `fan_out` delivers to next."""
    return f"""{_WITH_AN_INBOX if everyone else _SUBSCRIBED}
      AND user_id > coalesce((SELECT cursor FROM broadcast WHERE notification_id = %(id)s::uuid), '')
    ORDER BY user_id LIMIT {limit:d}"""


_NAMED = """
    SELECT unnest(%(users)s::text[]) AS user_id ORDER BY user_id"""


def _chosen(limit: int, *, everyone: bool, named: bool) -> str:
    """Return how the next users are found; `named`: they were read by `next_users` in the same transaction."""
    return _NAMED if named else next_users(limit, everyone=everyone)


@cache
def preferences_of_next(limit: int, *, everyone: bool, named: bool = False) -> str:
    """Return the statement that reads the preferences of those whom `fan_out` delivers to next, who have any.

    What comes in one language only is not `worded`: whoever has said nothing is then left out, as in `PREFERENCES_OF`.
    """
    return f"""
WITH chosen AS MATERIALIZED ({_chosen(limit, everyone=everyone, named=named)}
)
SELECT c.user_id, p.body::text AS body, p.token_locale
FROM chosen c
CROSS JOIN LATERAL (SELECT * FROM preference WHERE tenant = %(tenant)s AND user_id = c.user_id LIMIT 1) p
WHERE c.user_id <> %(excluded)s AND (%(worded)s OR {says_something("p.body")})
"""


def advance(limit: int, reached: str) -> str:
    """Return the end of a broadcast's statement: for whom it was suppressed, how far it is, and whether that is all.

    `reached` names the part with a row for each user who got it.
    """
    return f"""), suppressed AS (
    INSERT INTO suppression (notification_id, user_id, rule)
    SELECT %(id)s::uuid, m.user_id, m.rule FROM muted m JOIN chosen USING (user_id)
), progress AS (
    INSERT INTO broadcast AS b (notification_id, cursor, reached, done_at)
    SELECT %(id)s::uuid, coalesce(max(c.user_id), ''), (SELECT count(*) FROM {reached}),
           CASE WHEN count(*) < {limit:d} THEN now() END
    FROM chosen c
    ON CONFLICT (notification_id) DO UPDATE
    SET cursor = greatest(b.cursor, excluded.cursor), reached = b.reached + excluded.reached,
        done_at = excluded.done_at
    RETURNING done_at IS NOT NULL AS done
), done AS (
    DELETE FROM outbox WHERE position = %(position)s AND (SELECT done FROM progress)
)"""


# Writes to those who have an inbox, and gives one to the others: a fifth to a quarter less work than an upsert, which
# locks each row before it changes it, or inserts it for the time being. Both are in the order of names, but one comes
# after the other: whoever creates the same inboxes meanwhile can be waited for in a circle, or was faster.
_BUMPED = """), known AS (
    UPDATE inbox i SET last_seq = i.last_seq + 1, unread = i.unread + 1, unseen = i.unseen + 1
    WHERE i.tenant = %(tenant)s AND i.user_id = ANY (ARRAY(SELECT user_id FROM told))
    RETURNING i.id, i.user_id, i.last_seq, i.unread, i.unseen
), created AS (
    INSERT INTO inbox AS i (tenant, user_id, last_seq, unread, unseen)
    SELECT %(tenant)s, user_id, 1, 1, 1 FROM told WHERE user_id NOT IN (SELECT user_id FROM known)
    ORDER BY user_id
    RETURNING i.id, i.user_id, i.last_seq, i.unread, i.unseen
), bumped AS (
    SELECT * FROM known UNION ALL SELECT * FROM created"""
_BUMPED_IN_ORDER = """), bumped AS (
    INSERT INTO inbox AS i (tenant, user_id, last_seq, unread, unseen)
    SELECT %(tenant)s, user_id, 1, 1, 1 FROM told
    ORDER BY user_id  -- as in DELIVER
    ON CONFLICT (tenant, user_id) DO UPDATE
    SET last_seq = i.last_seq + 1, unread = i.unread + 1, unseen = i.unseen + 1
    RETURNING i.id, i.user_id, i.last_seq, i.unread, i.unseen"""


@cache
def fan_out(limit: int, *, everyone: bool, named: bool = False, careful: bool = False) -> str:
    """Return the statement that delivers a broadcast to the next users, and deletes its outbox row with the last.

    Users come in the order of their names, from behind the cursor, which is committed with their deliveries: whoever
    has it never gets it again. Who subscribed after it became due is left out, and of everyone, who had no inbox when
    the first of them got it. The limit is part of the text, as in `claim_due`.

    Where somebody else creates one of the inboxes in that moment, it fails, or waits in a circle with them; `careful`
    ones do neither, and take longer.
    """
    return f"""
WITH chosen AS MATERIALIZED ({_chosen(limit, everyone=everyone, named=named)}
), muted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(muted)s::json) AS m(user_id text, rule text)
), told AS MATERIALIZED (
    SELECT user_id FROM chosen c
    WHERE user_id <> %(excluded)s AND NOT EXISTS (SELECT 1 FROM muted m WHERE m.user_id = c.user_id)
    ORDER BY user_id
{_BUMPED_IN_ORDER if careful else _BUMPED}
), delivered AS (
    INSERT INTO delivery (inbox_id, seq, notification_id, domain, type, priority, silent, locale, collapse_key,
                          collapsed)
    SELECT id, last_seq, %(id)s::uuid, %(domain)s, %(type)s, %(priority)s,
           user_id IN (SELECT unnest(%(silent)s::text[])), %(locales)s::jsonb ->> user_id,
           %(collapse_key)s, coalesce((%(collapsed)s::jsonb ->> user_id)::int, 0)
    FROM bumped
    ORDER BY id  -- as the indexes are: neighbours go to the same pages
{advance(limit, "bumped")}
SELECT (SELECT done FROM progress) AS done, (SELECT count(*) FROM muted JOIN chosen USING (user_id)) AS suppressed,
       count(*) AS delivered,
       coalesce(json_agg(json_build_array(user_id, id, last_seq, unread, unseen)), '[]')::text AS boxes
FROM bumped
"""


NOTE_EVENTS = """
INSERT INTO notification_event (notification_id, event, detail)
SELECT notification_id, event, detail
FROM json_to_recordset(%(events)s::json) AS r(notification_id uuid, event text, detail text)
"""

NOTE_SUPPRESSIONS = """
INSERT INTO suppression (notification_id, user_id, rule)
SELECT notification_id, user_id, rule
FROM json_to_recordset(%(suppressions)s::json) AS r(notification_id uuid, user_id text, rule text)
"""

RETRY_LATER = """
UPDATE outbox SET attempts = attempts + 1, due_at = clock_timestamp() + make_interval(secs => %(delay_s)s)
WHERE position = %(position)s
"""

PARK = """
WITH gone AS (
    DELETE FROM outbox WHERE position = %(position)s RETURNING notification_id, priority, attempts
), noted AS (
    INSERT INTO notification_event (notification_id, event, detail)
    SELECT notification_id, 'parked', 'could not be dispatched; an operator sees why, and can put it back' FROM gone
)
INSERT INTO parked (notification_id, priority, attempts, reason)
SELECT notification_id, priority, attempts + 1, %(reason)s FROM gone
"""
