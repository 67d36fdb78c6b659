"""Stage 4: to which nodes a batch was pushed. It is noted to be asked for, and nothing else depends on it.

A batch's rows are found by its time, which its deliveries have as theirs, so none of them needs an index of its own.
"""

MOST_FORGOTTEN = 500  # batches in one statement

# Nobody waits for the disk. Losing the last of it in a crash loses an explanation.
NOTE_PUSHES = """
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
)
INSERT INTO pushed (dispatched_at, priority, node, at, notification_id, users, stretches)
SELECT r.dispatched_at, r.priority, r.node, clock_timestamp() - make_interval(secs => r.age_s), r.notification_id,
       r.users, r.stretches
FROM relaxed CROSS JOIN json_to_recordset(%(rows)s::json) AS r(
    dispatched_at timestamptz, priority smallint, node text, age_s double precision, notification_id uuid, users int,
    stretches json)
ON CONFLICT DO NOTHING
"""

PUSHES_OF_BATCH = """
SELECT at, node, stretches::text AS stretches
FROM pushed WHERE dispatched_at = %(dispatched_at)s AND priority = %(priority)s
ORDER BY at, node
"""

DELIVERIES_TO_NAMED = "SELECT inbox_id, seq FROM delivery WHERE notification_id = %(id)s"

# Stretches are not read: a million users are a few hundred batches.
PUSHES_OF_BROADCAST = """
SELECT node, min(at) AS at, max(at) AS last_at, sum(users) AS users
FROM pushed WHERE notification_id = %(id)s
GROUP BY node ORDER BY min(at), node
"""

FORGET_PUSHES = f"""
WITH oldest AS MATERIALIZED (
    SELECT dispatched_at FROM pushed WHERE dispatched_at <= now() - make_interval(secs => %(age_s)s)
    ORDER BY dispatched_at LIMIT {MOST_FORGOTTEN}
), gone AS (
    DELETE FROM pushed WHERE dispatched_at <= (SELECT max(dispatched_at) FROM oldest) RETURNING 1
)
SELECT count(*) AS gone FROM gone
"""
