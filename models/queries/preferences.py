"""Preferences: what users do not want to be told, or not to be rung up for."""

PREFERENCES_OF = """
SELECT p.tenant, p.user_id, p.body::text AS body
FROM json_to_recordset(%(asked)s::json) AS q(tenant text, user_id text)
CROSS JOIN LATERAL (SELECT * FROM preference WHERE tenant = q.tenant AND user_id = q.user_id LIMIT 1) p
"""

SET_PREFERENCES = """
INSERT INTO preference (tenant, user_id, body) VALUES (%(tenant)s, %(user)s, %(body)s::jsonb)
ON CONFLICT (tenant, user_id) DO UPDATE SET body = excluded.body, updated_at = now()
RETURNING user_id
"""
