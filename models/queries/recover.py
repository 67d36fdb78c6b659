"""Stage 7: what the sweep and operators look at."""

from functools import cache

MOST_COUNTED = 100_000  # of each priority: past that, how many more there are changes nothing that anybody does

OUTBOX_BY_PRIORITY = f"""
SELECT p.priority, due.depth, coalesce(extract(epoch FROM now() - due.oldest), 0)::float AS age_s
FROM generate_series(0, 3) AS p(priority)
CROSS JOIN LATERAL (
    SELECT count(*) AS depth, min(o.due_at) AS oldest
    FROM (
        SELECT due_at FROM outbox WHERE priority = p.priority AND due_at <= now()
        ORDER BY due_at LIMIT {MOST_COUNTED}
    ) o
) due
ORDER BY p.priority
"""


@cache
def due_up_to(limit: int) -> str:
    """Return the statement that counts what is due of each priority, up to a limit, which is part of the text."""
    return f"""
SELECT p.priority, due.depth
FROM generate_series(0, 3) AS p(priority)
CROSS JOIN LATERAL (
    SELECT count(*) AS depth
    FROM (SELECT 1 FROM outbox WHERE priority = p.priority AND due_at <= now() ORDER BY due_at LIMIT {limit:d}) o
) due
"""


COUNT_PARKED = "SELECT count(*) AS parked FROM parked"

LIST_PARKED = """
SELECT p.notification_id::text AS id, n.tenant, n.type, p.priority, p.attempts, p.reason, p.parked_at
FROM parked p JOIN notification n ON n.id = p.notification_id
ORDER BY p.parked_at, p.notification_id
"""

REPLAY_PARKED = """
WITH gone AS (
    DELETE FROM parked p WHERE (%(all)s OR notification_id = ANY(%(ids)s::uuid[]))
      AND NOT EXISTS (SELECT 1 FROM withdrawal w WHERE w.notification_id = p.notification_id AND w.cause = 'recalled')
    RETURNING notification_id, priority
), noted AS (
    INSERT INTO notification_event (notification_id, event, detail)
    SELECT notification_id, 'replayed', 'put back by an operator' FROM gone
)
INSERT INTO outbox (notification_id, priority) SELECT notification_id, priority FROM gone ORDER BY notification_id
"""
