"""Stage 6: what clients say they hold."""

# Never back, never past the head, and only for rows that move: a second ack changes nothing.
RECORD_ACKS_IF_AHEAD = """
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(acks)s::json) AS r(tenant text, user_id text, seq bigint)
), locked AS MATERIALIZED (
    SELECT i.id, least(r.seq, i.last_seq) AS seq
    FROM inbox i JOIN input r USING (tenant, user_id)
    WHERE i.acked_seq < least(r.seq, i.last_seq)
    ORDER BY i.tenant, i.user_id
    FOR UPDATE OF i
)
UPDATE inbox i SET acked_seq = locked.seq FROM locked WHERE i.id = locked.id AND i.acked_seq < locked.seq
"""
