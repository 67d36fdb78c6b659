"""Taking back: what is cancelled leaves the outbox, and what was delivered leaves the inboxes as a numbered change.

A withdrawal is a row of the outbox like any other, and is done in its turn. One that reaches few inboxes is done at
once, with the same statements.
"""

from functools import cache

# --- cancelling ------------------------------------------------------------------------------------------------------

FIND_TO_CANCEL = """
SELECT id::text AS id, domain, priority, audience, actor FROM notification
WHERE tenant = %(tenant)s AND id = %(id)s
FOR KEY SHARE  -- it is not erased meanwhile
"""

# Whoever cancels at the same time waits here, and then finds the numbers.
BEGIN_RECALL_IF_NEW = """
INSERT INTO withdrawal (notification_id, cause) VALUES (%(id)s, 'recalled')
ON CONFLICT DO NOTHING RETURNING at
"""

FIND_RECALL = """
SELECT at, due_at, counted, cancelled, recalled, already_read FROM withdrawal
WHERE notification_id = %(id)s AND cause = 'recalled'
"""

# Whoever counted them broke off, or is slow.
FIND_RECALLS_LEFT_UNCOUNTED = """
SELECT n.id::text AS id, n.tenant, n.domain, n.priority, n.audience, n.actor
FROM (
    SELECT notification_id FROM withdrawal
    WHERE NOT counted AND at <= now() - make_interval(secs => %(older_than_s)s)
    ORDER BY at LIMIT 10
) w
CROSS JOIN LATERAL (SELECT * FROM notification WHERE id = w.notification_id LIMIT 1) n
"""

# Waits for the dispatcher that has it: from its commit on nobody gets it any more, or everybody has it.
_TAKE_OUT_OF_OUTBOX = "DELETE FROM outbox WHERE notification_id = %(id)s AND withdraws IS NULL RETURNING due_at"
# Each sees what was committed while the one before it waited: a row that is being parked, or put back, is found.
TAKE_OUT = (
    _TAKE_OUT_OF_OUTBOX,
    "DELETE FROM parked WHERE notification_id = %(id)s RETURNING parked_at AS due_at",
    _TAKE_OUT_OF_OUTBOX,
)


# What may concern millions is counted bit by bit: `seen` rows of an index up to `last`, of which `n` count. Nobody gets
# it any more by then, so whoever counts later, or again, counts the same.
_NOT_YET = "greatest(%(after)s, coalesce((SELECT cursor FROM broadcast WHERE notification_id = %(id)s), ''))"


@cache
def count_subscribers_left(limit: int) -> str:
    """Return the statement that counts those of the next `limit` subscribers to whom it would have gone."""
    return f"""
SELECT count(*) FILTER (WHERE subscribed_at <= %(due_at)s AND user_id <> %(excluded)s) AS n, count(*) AS seen,
       max(user_id) AS last
FROM (
    SELECT user_id, subscribed_at FROM topic_subscription
    WHERE tenant = %(tenant)s AND topic = %(topic)s AND user_id > {_NOT_YET}
    ORDER BY user_id LIMIT {limit:d}
) s
"""


@cache
def count_inboxes_left(limit: int) -> str:
    """Return the statement that counts those of the next `limit` inboxes to which it would have gone."""
    return f"""
SELECT count(*) FILTER (WHERE user_id <> %(excluded)s AND created_at <= coalesce(
           (SELECT started_at FROM broadcast WHERE notification_id = %(id)s), %(at)s)) AS n,
       count(*) AS seen, max(user_id) AS last
FROM (
    SELECT user_id, created_at FROM inbox WHERE tenant = %(tenant)s AND user_id > {_NOT_YET}
    ORDER BY user_id LIMIT {limit:d}
) i
"""


@cache
def count_to_recall(limit: int) -> str:
    """Return the statement that counts those of the next `limit` deliveries that were neither read nor deleted `at`."""
    return f"""
SELECT count(*) FILTER (
           WHERE (read_at IS NULL OR read_at > %(at)s) AND (deleted_at IS NULL OR deleted_at > %(at)s)
       ) AS n, count(*) AS seen, max(inbox_id) AS last
FROM (
    SELECT inbox_id, read_at, deleted_at FROM delivery
    WHERE notification_id = %(id)s AND inbox_id > %(after)s
    ORDER BY inbox_id LIMIT {limit:d}
) d
"""


_TOLD = "format('never to arrive for %%s, recalled from %%s, left alone with %%s', cancelled, recalled, already_read)"

NOTE_RECALL = f"""
WITH counted AS (
    UPDATE withdrawal
    SET cancelled = %(cancelled)s, recalled = %(recalled)s, already_read = %(already_read)s
    WHERE notification_id = %(id)s AND cause = 'recalled'
    RETURNING notification_id, cancelled, recalled, already_read
)
INSERT INTO notification_event (notification_id, event, detail)
SELECT notification_id, 'cancelled', {_TOLD} FROM counted
"""

NOTE_RECALL_TO_BE_COUNTED = """
WITH uncounted AS (
    UPDATE withdrawal SET at = clock_timestamp(), due_at = %(due_at)s, counted = false
    WHERE notification_id = %(id)s AND cause = 'recalled'
    RETURNING notification_id
)
INSERT INTO notification_event (notification_id, event, detail)
SELECT notification_id, 'cancelled', 'its recipients are being counted' FROM uncounted
"""

# In the transaction that takes it out of their digests: what is done is counted, wherever it breaks off.
COUNT_CANCELLED = """
UPDATE withdrawal SET cancelled = cancelled + %(n)s WHERE notification_id = %(id)s AND cause = 'recalled'
"""

# It is found by its id: `NOT counted` would tempt a plan from when the table was empty to walk all of those.
FINISH_COUNT_IF_UNCOUNTED = f"""
WITH counted AS (
    UPDATE withdrawal
    SET counted = true, cancelled = cancelled + %(left)s, recalled = %(recalled)s, already_read = %(already_read)s
    WHERE notification_id = %(id)s AND cause = 'recalled' AND counted::int = 0
    RETURNING notification_id, cancelled, recalled, already_read
)
UPDATE notification_event e SET detail = {_TOLD} FROM counted c
WHERE e.notification_id = c.notification_id AND e.event = 'cancelled'
"""

QUEUE_RECALL = "INSERT INTO outbox (notification_id, priority, withdraws) VALUES (%(id)s, %(priority)s, 'recalled')"

# --- expiring --------------------------------------------------------------------------------------------------------


@cache
def queue_expired(limit: int) -> str:
    """Return the statement that puts what has expired by now into the outbox, the first `limit`."""
    return f"""
WITH due AS MATERIALIZED (
    SELECT notification_id FROM expiry WHERE expires_at <= now() ORDER BY expires_at LIMIT {limit:d}
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM expiry WHERE notification_id = ANY(ARRAY(SELECT notification_id FROM due))
    RETURNING notification_id, priority, expires_at
), begun AS (
    INSERT INTO withdrawal (notification_id, cause) SELECT notification_id, 'expired' FROM gone
    ON CONFLICT DO NOTHING
), queued AS (
    INSERT INTO outbox (notification_id, priority, withdraws)
    SELECT notification_id, priority, 'expired' FROM gone ORDER BY expires_at, notification_id
)
SELECT priority, count(*) AS n FROM gone GROUP BY priority
"""


# --- both ------------------------------------------------------------------------------------------------------------


@cache
def next_to_withdraw(limit: int) -> str:
    """Return the statement that finds the next deliveries to take back of these notifications, in their order.

    One that was recalled stays with whoever had read it by then.
    """
    return f"""
SELECT a.ord, d.inbox_id, d.seq
FROM json_to_recordset(%(asked)s::json) AS a(ord int, id uuid, cause text)
CROSS JOIN LATERAL (
    SELECT * FROM withdrawal WHERE notification_id = a.id AND cause = a.cause LIMIT 1
) w
CROSS JOIN LATERAL (
    SELECT inbox_id, seq FROM delivery
    WHERE notification_id = a.id AND inbox_id > w.cursor AND deleted_at IS NULL
      AND (a.cause = 'expired' OR read_at IS NULL OR read_at > w.at)
    ORDER BY inbox_id LIMIT {limit:d}
) d
ORDER BY a.ord, d.inbox_id
LIMIT {limit:d}
"""


# A statement of its own, before WITHDRAW, which then sees what was committed before the locks.
LOCK_INBOXES = """
SELECT id FROM inbox WHERE id = ANY(%(inboxes)s)
ORDER BY tenant, user_id  -- as in DELIVER
FOR UPDATE
"""

# As in COLLAPSE, nothing is joined to what was written.
WITHDRAW = """
WITH target AS MATERIALIZED (
    SELECT d.inbox_id, d.seq, d.notification_id, k.cause, d.read_at IS NULL AND d.archived_at IS NULL AS unread,
           d.seen_at IS NULL AND d.archived_at IS NULL AS unseen
    FROM json_to_recordset(%(keys)s::json) AS k(inbox_id bigint, seq bigint, cause text)
    CROSS JOIN LATERAL (
        SELECT * FROM delivery WHERE inbox_id = k.inbox_id AND seq = k.seq AND deleted_at IS NULL LIMIT 1
    ) d
), touched AS (
    UPDATE delivery d SET deleted_at = clock_timestamp() FROM target t WHERE d.inbox_id = t.inbox_id AND d.seq = t.seq
), per_box AS MATERIALIZED (
    SELECT inbox_id, array_agg(seq ORDER BY seq) AS seqs, count(*) FILTER (WHERE unread) AS unread,
           count(*) FILTER (WHERE unseen) AS unseen
    FROM target GROUP BY inbox_id
), bumped AS (
    UPDATE inbox i SET last_seq = i.last_seq + 1, unread = i.unread - p.unread, unseen = i.unseen - p.unseen
    FROM per_box p WHERE i.id = ANY(ARRAY(SELECT inbox_id FROM per_box)) AND i.id = p.inbox_id
    RETURNING i.id, i.tenant, i.user_id, i.last_seq, i.unread, i.unseen, p.seqs
), noted AS (
    INSERT INTO inbox_change (inbox_id, seq, action, seqs, at) SELECT id, last_seq, 'delete', seqs, now() FROM bumped
), counted AS (
    UPDATE withdrawal w SET withdrawn = w.withdrawn + t.n, cursor = greatest(w.cursor, t.cursor)
    FROM (
        SELECT notification_id, cause, count(*) AS n, max(inbox_id) AS cursor FROM target
        GROUP BY notification_id, cause
    ) t
    WHERE w.notification_id = t.notification_id AND w.cause = t.cause
)
SELECT tenant, user_id, last_seq AS seq, 'delete' AS action, seqs, NULL::bigint AS up_to, now() AS at, unread, unseen
FROM bumped
"""

FINISH_WITHDRAWALS = """
WITH done AS (
    DELETE FROM outbox WHERE position = ANY(%(positions)s) RETURNING notification_id, withdraws
)
INSERT INTO notification_event (notification_id, event, detail)
SELECT w.notification_id, 'withdrawn',
       format('expired, and taken out of %%s %%s', w.withdrawn, CASE w.withdrawn WHEN 1 THEN 'inbox' ELSE 'inboxes' END)
FROM done JOIN withdrawal w ON w.notification_id = done.notification_id AND w.cause = done.withdraws
WHERE done.withdraws = 'expired' AND w.withdrawn > 0
"""
