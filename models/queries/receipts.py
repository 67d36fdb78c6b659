"""Stage 6: what clients say they hold."""

# Never back, never past the head, and only for rows that move: a second ack changes nothing. When it was stays, so that
# it can be said of every delivery: `since` is where the ack before it ended.
RECORD_ACKS_IF_AHEAD = """
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(acks)s::json) AS r(tenant text, user_id text, seq bigint)
    ORDER BY tenant, user_id  -- every writer locks inboxes in this order, or gives way: no deadlock
), locked AS MATERIALIZED (
    SELECT i.id, i.acked_seq AS since, least(r.seq, i.last_seq) AS seq
    FROM input r CROSS JOIN LATERAL (  -- one index look-up each: a join would read all inboxes
        SELECT i.id, i.acked_seq, i.last_seq FROM inbox i
        WHERE i.tenant = r.tenant AND i.user_id = r.user_id AND i.acked_seq < least(r.seq, i.last_seq)
        FOR UPDATE
    ) i
), moved AS (  -- `least`, since Postgres checks the row as it was before others wrote to it, too
    UPDATE inbox i SET acked_seq = least(locked.seq, i.last_seq) FROM locked
    WHERE i.id = ANY (ARRAY(SELECT id FROM locked)) AND i.id = locked.id AND i.acked_seq < locked.seq
    RETURNING i.id, locked.seq, locked.since
)
INSERT INTO ack (inbox_id, seq, since, at) SELECT id, seq, since, clock_timestamp() FROM moved
"""
