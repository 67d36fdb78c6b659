"""Topics: who is subscribed to what."""

SUBSCRIBE_IF_NEW = """
WITH added AS (
    INSERT INTO topic_subscription (tenant, topic, user_id)
    SELECT %(tenant)s, %(topic)s, u FROM unnest(%(users)s::text[]) AS u
    ORDER BY u  -- every writer in this order: no deadlock
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) AS n FROM added
"""

UNSUBSCRIBE = """
WITH doomed AS MATERIALIZED (
    SELECT s.user_id
    FROM (SELECT u FROM unnest(%(users)s::text[]) AS u ORDER BY u) w  -- every writer in this order: no deadlock
    CROSS JOIN LATERAL (
        SELECT user_id FROM topic_subscription
        WHERE tenant = %(tenant)s AND topic = %(topic)s AND user_id = w.u LIMIT 1
        FOR UPDATE
    ) s
), gone AS (
    DELETE FROM topic_subscription s USING doomed d
    WHERE s.tenant = %(tenant)s AND s.topic = %(topic)s AND s.user_id = d.user_id
    RETURNING 1
)
SELECT count(*) AS n FROM gone
"""

SUBSCRIBERS_AFTER = """
SELECT user_id FROM topic_subscription
WHERE tenant = %(tenant)s AND topic = %(topic)s AND user_id > %(after)s
ORDER BY user_id LIMIT %(limit)s
"""
