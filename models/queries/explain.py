"""Why one user has a notification, or has it not: everything that is known of the two together, in one row."""

# Whether a newer one took its place is looked for where something was deleted that could have been replaced.
EXPLAIN = """
SELECT n.id::text AS id, n.domain, n.audience, n.actor ->> 'id' AS actor, n.created_at, n.deliver_at, n.expires_at,
       clock_timestamp() AS now, o.due_at, o.attempts, p.parked_at, b.started_at, b.done_at,
       b.cursor >= %(user)s AS was_their_turn, s.rule, s.at AS suppressed_at, t.subscribed_at,
       i.id AS inbox_id, i.created_at AS inbox_since, i.acked_seq, a.at AS acked_at, a.seq AS acked_to,
       d.seq, d.priority, d.silent, d.delivered_at,
       d.seen_at, d.read_at, d.archived_at, d.deleted_at, d.collapsed, g.at AS digested_at,
       g.closes_at AS digest_closes_at, g.closed_at AS digest_closed_at, g.arrived_as,
       EXISTS (
           SELECT 1 FROM delivery later
           WHERE d.collapse_key IS NOT NULL AND d.deleted_at IS NOT NULL
             AND later.inbox_id = d.inbox_id AND later.seq > d.seq AND later.delivered_at = d.deleted_at
             AND later.type = d.type AND later.collapse_key = d.collapse_key
       ) AS replaced
FROM notification n
LEFT JOIN LATERAL (
    SELECT * FROM outbox WHERE notification_id = n.id AND withdraws IS NULL LIMIT 1
) o ON true
LEFT JOIN parked p ON p.notification_id = n.id
LEFT JOIN broadcast b ON b.notification_id = n.id
LEFT JOIN LATERAL (
    SELECT e.at, c.closes_at, c.closed_at, c.notification_id::text AS arrived_as
    FROM (SELECT * FROM digest WHERE tenant = n.tenant AND user_id = %(user)s AND type = n.type OFFSET 0) c
    CROSS JOIN LATERAL (
        SELECT at FROM digest_entry WHERE notification_id = n.id AND digest_id = c.id LIMIT 1
    ) e
    LIMIT 1
) g ON true
LEFT JOIN suppression s ON s.notification_id = n.id AND s.user_id = %(user)s
LEFT JOIN LATERAL (
    SELECT subscribed_at FROM topic_subscription
    WHERE tenant = n.tenant AND topic = n.audience ->> 'topic' AND user_id = %(user)s LIMIT 1
) t ON true
LEFT JOIN LATERAL (
    SELECT * FROM inbox WHERE tenant = n.tenant AND user_id = %(user)s LIMIT 1
) i ON true
LEFT JOIN LATERAL (
    SELECT * FROM delivery WHERE notification_id = n.id AND inbox_id = i.id LIMIT 1
) d ON true
LEFT JOIN LATERAL (  -- the ack that was about it; the times of older ones may not be known
    SELECT * FROM (
        SELECT * FROM ack WHERE inbox_id = i.id AND seq >= d.seq ORDER BY seq LIMIT 1
    ) f WHERE f.since < d.seq
) a ON true
WHERE n.tenant = %(tenant)s AND n.id = %(id)s::uuid
"""
