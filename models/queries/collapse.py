"""Stage 3, where something has a collapse key: it takes the place of what is unread of the same user, type and key.

Runs before the deliveries are written, in their transaction: what goes is one numbered change for each inbox.
"""

# Whoever has no inbox yet gets one: there must be something to lock. COLLAPSE sees what was committed before the locks.
LOCK_OR_CREATE_INBOXES = """
INSERT INTO inbox AS i (tenant, user_id)
SELECT tenant, user_id FROM json_to_recordset(%(users)s::json) AS u(tenant text, user_id text)
ORDER BY tenant, user_id  -- as in DELIVER
ON CONFLICT (tenant, user_id) DO UPDATE SET last_seq = i.last_seq
"""

# What is unread may have overtaken what arrives now: by its priority, or while that was tried again. Then it stays, as
# everybody has it, and what takes its place is going to stand for that one, too. What has expired is no longer there,
# and what was said at a time that is to come was said before the clock was set back. What was said since this
# transaction began is none of that.
# Joins nothing to what it has written: a plan would take that for a row or two, and compare each with each.
COLLAPSE = """
WITH unread AS MATERIALIZED (
    SELECT i.id AS inbox_id, k.tenant, k.user_id, k.type, k.collapse_key,
           d.seq, d.collapsed + coalesce(d.overtook, 0) + 1 AS places, d.seen_at IS NULL AS unseen, k.stands_for,
           n.said_at, bool_or(n.is_there AND n.said_at > k.said_at)
               OVER (PARTITION BY i.id, k.type, k.collapse_key) AS overtaken
    FROM json_to_recordset(%(keys)s::json) AS k(
        tenant text, user_id text, type text, collapse_key text, said_at timestamptz, stands_for int)
    CROSS JOIN LATERAL (SELECT id FROM inbox WHERE tenant = k.tenant AND user_id = k.user_id LIMIT 1) i
    CROSS JOIN LATERAL (
        SELECT seq, collapsed, overtook, seen_at, notification_id FROM delivery
        WHERE inbox_id = i.id AND type = k.type AND collapse_key = k.collapse_key
          AND read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL
        ORDER BY seq
    ) d
    CROSS JOIN LATERAL (
        SELECT s.said_at, s.said_at <= clock_timestamp() AND coalesce(s.expires_at, 'infinity') > now() AS is_there
        FROM (
            SELECT greatest(deliver_at, created_at) AS said_at, expires_at FROM notification
            WHERE id = d.notification_id LIMIT 1
        ) s
    ) n
), old AS MATERIALIZED (
    SELECT * FROM unread WHERE NOT overtaken
), touched AS (
    UPDATE delivery d SET deleted_at = now() FROM old WHERE d.inbox_id = old.inbox_id AND d.seq = old.seq
), newest AS MATERIALIZED (
    SELECT DISTINCT ON (inbox_id, type, collapse_key) inbox_id, seq, stands_for FROM unread WHERE overtaken
    ORDER BY inbox_id, type, collapse_key, said_at DESC, seq DESC
), counted AS (
    UPDATE delivery d SET overtook = coalesce(d.overtook, 0) + n.stands_for
    FROM newest n WHERE d.inbox_id = n.inbox_id AND d.seq = n.seq
), per_box AS MATERIALIZED (
    SELECT inbox_id, array_agg(seq ORDER BY seq) AS seqs, count(*) AS unread, count(*) FILTER (WHERE unseen) AS unseen,
           json_agg(json_build_array(type, collapse_key, places)) AS taken
    FROM old GROUP BY inbox_id
), bumped AS (
    UPDATE inbox i SET last_seq = i.last_seq + 1, unread = i.unread - p.unread, unseen = i.unseen - p.unseen
    FROM per_box p WHERE i.id = ANY(ARRAY(SELECT inbox_id FROM per_box)) AND i.id = p.inbox_id
    RETURNING i.id, i.tenant, i.user_id, i.last_seq, p.seqs, p.taken
), noted AS (
    INSERT INTO inbox_change (inbox_id, seq, action, seqs, at) SELECT id, last_seq, 'delete', seqs, now() FROM bumped
)
SELECT tenant, user_id, last_seq AS seq, 'delete' AS action, seqs, NULL::bigint AS up_to, now() AS at, taken,
       NULL::json AS overtaken
FROM bumped
UNION ALL
SELECT tenant, user_id, NULL, NULL, NULL, NULL, NULL, NULL,
       json_agg(DISTINCT jsonb_build_array(type, collapse_key))
FROM unread WHERE overtaken GROUP BY tenant, user_id
"""
