"""When users were last connected."""

# Sockets that end because their user is erased say so after it: that must not leave a trace. Whoever is seen a minute
# later has come back with a new token.
RECORD_LAST_SEEN_IF_LATER = """
WITH input AS MATERIALIZED (
    SELECT tenant, user_id, max(last_seen_at) AS last_seen_at
    FROM json_to_recordset(%(seen)s::json) AS r(tenant text, user_id text, last_seen_at timestamptz)
    GROUP BY tenant, user_id
)
INSERT INTO presence AS p (tenant, user_id, last_seen_at)
SELECT i.tenant, i.user_id, i.last_seen_at
FROM input i
LEFT JOIN LATERAL (
    SELECT erased_at FROM revocation WHERE tenant = i.tenant AND user_id = i.user_id LIMIT 1
) r ON true
WHERE r.erased_at IS NULL OR r.erased_at < i.last_seen_at - interval '1 minute'
ORDER BY i.tenant, i.user_id  -- one order for all writers: no deadlock
ON CONFLICT (tenant, user_id) DO UPDATE SET last_seen_at = excluded.last_seen_at
WHERE p.last_seen_at < excluded.last_seen_at
"""

LAST_SEEN = """
SELECT q.ord, p.last_seen_at
FROM json_to_recordset(%(asked)s::json) AS q(ord int, tenant text, user_id text)
CROSS JOIN LATERAL (
    SELECT last_seen_at FROM presence WHERE tenant = q.tenant AND user_id = q.user_id LIMIT 1
) p
"""
