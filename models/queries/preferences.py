"""Preferences: what users do not want to be told, or not to be rung up for, and in which language they read it.

A row whose body says nothing stands for somebody who only came with a token that has a locale.
"""

from models.preferences import NOTHING as _NOTHING


def says_something(body: str) -> str:
    """Return the condition that a column is not the body of somebody who has said nothing."""
    return f"{body} <> '{_NOTHING}'::jsonb"


# Whoever is asked about what comes in one language only is not told of those who have said nothing.
PREFERENCES_OF = f"""
SELECT p.tenant, p.user_id, p.body::text AS body, p.token_locale
FROM json_to_recordset(%(asked)s::json) AS q(tenant text, user_id text)
CROSS JOIN LATERAL (SELECT * FROM preference WHERE tenant = q.tenant AND user_id = q.user_id LIMIT 1) p
WHERE %(worded)s OR {says_something("p.body")}
"""

SET_PREFERENCES = """
INSERT INTO preference (tenant, user_id, body) VALUES (%(tenant)s, %(user)s, %(body)s::jsonb)
ON CONFLICT (tenant, user_id) DO UPDATE SET body = excluded.body, updated_at = now()
RETURNING user_id
"""

# Whoever comes with what is remembered costs a look and no write. A token from before its user was disconnected, or
# erased, counts no more, nor one of a tenant that is gone: they must not leave a trace.
REMEMBER_LOCALES_IF_NEW = f"""
WITH new AS MATERIALIZED (
    SELECT i.tenant, i.user_id, i.locale, i.issued_at
    FROM json_to_recordset(%(came)s::json) AS i(tenant text, user_id text, locale text, issued_at timestamptz)
    LEFT JOIN LATERAL (
        SELECT token_locale FROM preference WHERE tenant = i.tenant AND user_id = i.user_id LIMIT 1
    ) p ON true
    WHERE p.token_locale IS DISTINCT FROM i.locale
)
INSERT INTO preference AS p (tenant, user_id, body, token_locale)
SELECT n.tenant, n.user_id, '{_NOTHING}'::jsonb, n.locale
FROM new n
LEFT JOIN LATERAL (
    SELECT revoked_at FROM revocation WHERE tenant = n.tenant AND user_id = n.user_id LIMIT 1
) r ON true
WHERE (r.revoked_at IS NULL OR r.revoked_at <= n.issued_at)
  AND (n.tenant = %(default_tenant)s OR EXISTS (SELECT 1 FROM tenant WHERE id = n.tenant))
ORDER BY n.tenant, n.user_id  -- one order for all writers: no deadlock
ON CONFLICT (tenant, user_id) DO UPDATE SET token_locale = excluded.token_locale
"""
