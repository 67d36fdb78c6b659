"""Stage 1: accept. One statement writes notifications and their outbox rows, so one implicit commit makes them true."""

INSERT_IF_NEW = """
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS r(
        ord int, id uuid, tenant text, type text, domain text, priority smallint, title text, body text, data json,
        audience jsonb, actor jsonb, action_url text, collapse_key text, deliver_at timestamptz,
        expires_at timestamptz, idempotency_key text, body_hash text, texts jsonb, mutable boolean,
        critical_overrides boolean, digest_every text, digest_key text)
), written AS (
    INSERT INTO notification (id, tenant, type, domain, priority, title, body, data, audience, actor, action_url,
                              collapse_key, deliver_at, expires_at, idempotency_key, body_hash, texts, mutable,
                              critical_overrides, digest_every, digest_key)
    SELECT id, tenant, type, domain, priority, title, body, data, audience, actor, action_url,
           collapse_key, deliver_at, expires_at, idempotency_key, decode(body_hash, 'hex'), texts,
           coalesce(mutable, true), coalesce(critical_overrides, true), digest_every, digest_key
    FROM input
    ORDER BY tenant, idempotency_key, ord  -- one order for all writers: no deadlock between equal keys
    ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, created_at
), queued AS (
    INSERT INTO outbox (notification_id, priority, due_at)
    SELECT id, i.priority, greatest(i.deliver_at, now())
    FROM written JOIN input i USING (id)
    ORDER BY i.ord  -- identity values follow this order: the order of requests is the order of dispatch
), ends AS (
    INSERT INTO expiry (notification_id, priority, expires_at)
    SELECT id, i.priority, i.expires_at FROM written JOIN input i USING (id) WHERE i.expires_at IS NOT NULL
)
SELECT id::text, created_at FROM written
"""

FIND_BY_IDEMPOTENCY_KEY = """
SELECT r.ord, n.id::text, n.created_at, n.deliver_at, encode(n.body_hash, 'hex') AS body_hash
FROM json_to_recordset(%(keys)s::json) AS r(ord int, tenant text, idempotency_key text)
CROSS JOIN LATERAL (
    SELECT * FROM notification WHERE tenant = r.tenant AND idempotency_key = r.idempotency_key LIMIT 1
) n
"""

GET_NOTIFICATION = """
SELECT n.id::text, n.type, n.domain, n.priority, n.audience, n.title, n.body, n.texts, n.mutable,
       n.critical_overrides, n.data, n.action_url, n.actor, n.collapse_key, n.deliver_at,
       n.expires_at, n.created_at, o.due_at, o.attempts, p.reason AS parked_reason, p.parked_at,
       b.started_at, b.done_at, s.suppressed, s.rules,
       g.digested, g.waiting, g.digested_at, d.*
FROM notification n
LEFT JOIN outbox o ON o.notification_id = n.id AND o.withdraws IS NULL
LEFT JOIN broadcast b ON b.notification_id = n.id
LEFT JOIN parked p ON p.notification_id = n.id
CROSS JOIN LATERAL (
    SELECT count(*) AS recipients, count(*) FILTER (WHERE i.acked_seq >= d.seq) AS acked,
           count(d.seen_at) AS seen, count(d.read_at) AS read, min(d.delivered_at) AS first_at,
           max(d.delivered_at) AS last_at, min(a.at) AS first_acked_at, max(a.at) AS last_acked_at,
           min(d.seen_at) AS first_seen_at, max(d.seen_at) AS last_seen_at,
           min(d.read_at) AS first_read_at, max(d.read_at) AS last_read_at
    FROM delivery d
    CROSS JOIN LATERAL (SELECT acked_seq FROM inbox WHERE id = d.inbox_id LIMIT 1) i
    LEFT JOIN LATERAL (  -- as in `explain`; looked for where there is one
        SELECT * FROM (
            SELECT at, since FROM ack WHERE inbox_id = d.inbox_id AND seq >= d.seq AND i.acked_seq >= d.seq
            ORDER BY seq LIMIT 1
        ) f WHERE f.since < d.seq
    ) a ON true
    WHERE d.notification_id = n.id
) d
CROSS JOIN LATERAL (
    SELECT count(*) AS digested, count(*) FILTER (WHERE closed_at IS NULL) AS waiting, max(e.at) AS digested_at
    FROM digest_entry e CROSS JOIN LATERAL (SELECT closed_at FROM digest WHERE id = e.digest_id LIMIT 1) c
    WHERE e.notification_id = n.id
) g
CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.users), 0)::bigint AS suppressed,
           coalesce(json_agg(json_build_object('rule', r.rule, 'users', r.users, 'at', r.at)), '[]') AS rules
    FROM (
        SELECT rule, count(*) AS users, max(at) AS at FROM suppression WHERE notification_id = n.id GROUP BY rule
    ) r
) s
WHERE n.tenant = %(tenant)s AND n.id = %(id)s
"""

GET_EVENTS = """
SELECT at, event, detail FROM notification_event WHERE notification_id = %(id)s ORDER BY at, id
"""
