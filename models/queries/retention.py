"""What is too old or too much: looked for inbox by inbox, and removed a little at a time.

What is visible leaves an inbox only as a `delete` change at its head, by the statement that does users' deletions. The
log is another matter: what it need not keep goes from its oldest end, and `floor_seq` says how far. The floor passes
over items that are kept for longer; their rows stay, and lists show them. A row is removed for good only at or below
the floor, and only where it is deleted or a change.
"""

MOST_INBOXES = 200  # looked at in one statement
MOST_RETIRED = 500  # items in one change: whoever writes to the inbox waits for no longer than that takes
MOST_TRIMMED = 1_000  # numbers of a log in one transaction
MOST_FOUND = 10_000  # items of one inbox that are remembered at a time
MOST_NOTIFICATIONS = 500
KEYS_KEPT_S = 86_400  # at least, however little is kept: whoever got no answer asks again with the same key

BEGIN_ROUND_IF_DUE = """
INSERT INTO retention_round AS r (what, cursor) VALUES (%(what)s, %(first)s)
ON CONFLICT (what) DO UPDATE
SET began_at = CASE WHEN r.cursor = '' THEN now() ELSE r.began_at END,
    cursor = CASE WHEN r.cursor = '' THEN %(first)s ELSE r.cursor END
WHERE r.cursor <> '' OR r.began_at <= now() - make_interval(secs => %(round_s)s)
RETURNING cursor
"""

# Whoever else was at it has looked at the same rows: the one who is done first says how far it is.
MOVE_CURSOR_IF_UNMOVED = """
UPDATE retention_round SET cursor = %(cursor)s WHERE what = %(what)s AND cursor = %(before)s
"""

# An item may be too old where the oldest one is older than the least that some rule keeps, and there may be too many
# where more numbers were ever given than that. Each look reads an entry of an index.
LOOK_AT_INBOXES = f"""
WITH own AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(own)s::json) AS r(
        tenant text, items bigint, age_s bigint, log_items bigint, log_age_s bigint)
), box AS MATERIALIZED (
    SELECT id, tenant, user_id, last_seq, floor_seq FROM inbox WHERE id > %(after)s ORDER BY id LIMIT {MOST_INBOXES}
), kept AS MATERIALIZED (
    SELECT b.*, coalesce(o.items, %(items)s) AS items, coalesce(o.age_s, %(age_s)s) AS age_s,
           coalesce(o.log_items, %(log_items)s) AS log_items, coalesce(o.log_age_s, %(log_age_s)s) AS log_age_s
    FROM box b LEFT JOIN own o USING (tenant)
)
SELECT k.id, k.tenant, k.user_id,
       k.last_seq > k.items OR oldest.at <= now() - make_interval(secs => k.age_s) AS items_due,
       k.last_seq - k.floor_seq > k.log_items OR first.at <= now() - make_interval(secs => k.log_age_s)
       OR EXISTS (
           SELECT 1 FROM delivery WHERE inbox_id = k.id AND deleted_at IS NOT NULL AND seq <= k.floor_seq OFFSET 0
       ) AS log_due
FROM kept k
CROSS JOIN LATERAL (
    SELECT least(
        (SELECT delivered_at FROM delivery
         WHERE inbox_id = k.id AND archived_at IS NULL AND deleted_at IS NULL ORDER BY seq LIMIT 1),
        (SELECT delivered_at FROM delivery
         WHERE inbox_id = k.id AND archived_at IS NOT NULL AND deleted_at IS NULL ORDER BY seq LIMIT 1)
    ) AS at
) oldest
CROSS JOIN LATERAL (
    SELECT coalesce(
        (SELECT delivered_at FROM delivery WHERE inbox_id = k.id AND seq = k.floor_seq + 1),
        (SELECT at FROM inbox_change WHERE inbox_id = k.id AND seq = k.floor_seq + 1)
    ) AS at
) first
ORDER BY k.id
"""

_RULES = """rule AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rules)s::json) AS r(
        tenant text, rank int, beginning text, whole boolean, items bigint, age_s bigint)
)"""
_FITS = "CASE WHEN r.whole THEN {type} = r.beginning ELSE starts_with({type}, r.beginning) END"

# Without a lock: what is too old stays too old. The change that follows leaves out what was deleted meanwhile.
FIND_RETIRABLE = f"""
WITH {_RULES}, live AS (
    SELECT d.seq, d.delivered_at, r.items, r.age_s,
           row_number() OVER (PARTITION BY r.rank ORDER BY d.seq DESC) AS nth
    FROM delivery d CROSS JOIN LATERAL (
        SELECT * FROM rule r WHERE {_FITS.format(type="d.type")} ORDER BY r.rank LIMIT 1
    ) r
    WHERE d.inbox_id = %(inbox)s AND d.deleted_at IS NULL
)
SELECT seq FROM live WHERE nth > items OR delivered_at <= now() - make_interval(secs => age_s)
ORDER BY seq LIMIT {MOST_FOUND}
"""

# Its own statement, as `inbox.LOCK_INBOX`; nobody is kept waiting for what can be done in the next round.
LOCK_INBOX_IF_FREE = "SELECT id FROM inbox WHERE id = %(inbox)s FOR UPDATE SKIP LOCKED"

TRIM_LOG = f"""
WITH box AS MATERIALIZED (
    SELECT id, last_seq, floor_seq, least(last_seq, floor_seq + {MOST_TRIMMED}) AS reach FROM inbox WHERE id = %(inbox)s
), young AS MATERIALIZED (
    SELECT min(e.seq) AS seq
    FROM box b CROSS JOIN LATERAL (
        SELECT seq, delivered_at AS at FROM delivery WHERE inbox_id = b.id AND seq > b.floor_seq AND seq <= b.reach
        UNION ALL
        SELECT seq, at FROM inbox_change WHERE inbox_id = b.id AND seq > b.floor_seq AND seq <= b.reach
    ) e
    WHERE e.at > now() - make_interval(secs => %(log_age_s)s)
), bound AS MATERIALIZED (
    SELECT b.id, b.floor_seq AS before,
           greatest(b.floor_seq, coalesce(y.seq - 1, b.reach), least(b.last_seq - %(log_items)s, b.reach)) AS floor
    FROM box b CROSS JOIN young y
), doomed AS MATERIALIZED (
    SELECT d.inbox_id, d.seq
    FROM bound b CROSS JOIN LATERAL (
        SELECT inbox_id, seq FROM delivery
        WHERE inbox_id = b.id AND deleted_at IS NOT NULL AND seq <= b.floor ORDER BY seq LIMIT {MOST_TRIMMED}
    ) d
), deliveries AS (
    DELETE FROM delivery d
    WHERE d.inbox_id = %(inbox)s AND d.deleted_at IS NOT NULL AND d.seq = ANY (ARRAY(SELECT seq FROM doomed))
    RETURNING 1
), changes AS (
    DELETE FROM inbox_change c USING bound b WHERE c.inbox_id = b.id AND c.seq > b.before AND c.seq <= b.floor
    RETURNING 1
), looked_at AS MATERIALIZED (  -- acks of what the floor passes now, and of what goes: they may be about nothing more
    SELECT a.seq, a.since
    FROM bound b CROSS JOIN LATERAL (
        SELECT seq, since FROM ack WHERE inbox_id = b.id AND seq > b.before AND seq <= b.floor
    ) a
    UNION
    SELECT a.seq, a.since
    FROM doomed d CROSS JOIN bound b CROSS JOIN LATERAL (
        SELECT seq, since FROM ack WHERE inbox_id = d.inbox_id AND seq >= d.seq ORDER BY seq LIMIT 1
    ) a
    WHERE a.seq <= b.floor
    UNION
    SELECT a.seq, a.since  -- the last that the floor had passed by when it came
    FROM bound b CROSS JOIN LATERAL (
        SELECT seq, since FROM ack WHERE inbox_id = b.id AND seq <= b.before ORDER BY seq DESC LIMIT 1
    ) a
), acks AS (
    DELETE FROM ack WHERE inbox_id = %(inbox)s AND seq = ANY (ARRAY(
        SELECT l.seq FROM looked_at l
        WHERE NOT EXISTS (
            SELECT 1 FROM delivery
            WHERE inbox_id = %(inbox)s AND seq > l.since AND seq <= l.seq
              AND seq NOT IN (SELECT seq FROM doomed) OFFSET 0
        )
    ))
), moved AS (
    UPDATE inbox i SET floor_seq = b.floor FROM bound b WHERE i.id = b.id AND i.floor_seq < b.floor
)
SELECT (SELECT count(*) FROM deliveries) AS deliveries, (SELECT count(*) FROM changes) AS changes,
       b.floor - b.before >= {MOST_TRIMMED} OR (SELECT count(*) FROM doomed) >= {MOST_TRIMMED} AS more
FROM bound b
"""

# In the order of their ids, which is that of time: the round ends with the first that no rule can be about yet.
# OFFSET 0 makes each look an index look-up of its own. The rules of the tenant '' are those of tenants without any.
REMOVE_NOTIFICATIONS = f"""
WITH {_RULES}, seen AS MATERIALIZED (
    SELECT id, tenant, type, created_at FROM notification WHERE id > %(after)s::uuid
    ORDER BY id LIMIT {MOST_NOTIFICATIONS}
), doomed AS MATERIALIZED (
    SELECT s.id
    FROM seen s CROSS JOIN LATERAL (
        SELECT r.age_s FROM rule r WHERE r.tenant IN (s.tenant, '') AND {_FITS.format(type="s.type")}
        ORDER BY r.tenant = '', r.rank LIMIT 1
    ) r
    WHERE s.created_at <= now() - make_interval(secs => greatest(r.age_s, {KEYS_KEPT_S}))
      AND NOT EXISTS (SELECT 1 FROM delivery WHERE notification_id = s.id OFFSET 0)
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE notification_id = s.id OFFSET 0)
      AND NOT EXISTS (SELECT 1 FROM parked WHERE notification_id = s.id OFFSET 0)
      AND NOT EXISTS (
          SELECT 1 FROM digest_entry e
          CROSS JOIN LATERAL (SELECT closed_at FROM digest WHERE id = e.digest_id LIMIT 1) d
          WHERE e.notification_id = s.id AND d.closed_at IS NULL OFFSET 0
      )
), gone AS (
    DELETE FROM notification WHERE id = ANY (ARRAY(SELECT id FROM doomed)) RETURNING 1
), events AS (
    DELETE FROM notification_event WHERE notification_id = ANY (ARRAY(SELECT id FROM doomed))
), suppressions AS (
    DELETE FROM suppression WHERE notification_id = ANY (ARRAY(SELECT id FROM doomed))
), entries AS (
    DELETE FROM digest_entry WHERE notification_id = ANY (ARRAY(SELECT id FROM doomed))
), withdrawals AS (
    DELETE FROM withdrawal WHERE notification_id = ANY (ARRAY(SELECT id FROM doomed))
), ends AS (
    DELETE FROM expiry WHERE notification_id = ANY (ARRAY(SELECT id FROM doomed))
), broadcasts AS (
    DELETE FROM broadcast WHERE notification_id = ANY (ARRAY(SELECT id FROM doomed))
)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT id::text FROM seen ORDER BY id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM seen) < {MOST_NOTIFICATIONS}
       OR (SELECT bool_or(created_at > now() - make_interval(secs => %(age_s)s)) FROM seen) AS ended
"""
