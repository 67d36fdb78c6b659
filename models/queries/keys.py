"""API keys."""

_COLUMNS = "id, name, scopes, domains, created_at, revoked_at"

CREATE_KEY = f"""
INSERT INTO api_key (id, tenant, name, secret_hash, scopes, domains)
VALUES (%(id)s, %(tenant)s, %(name)s, %(secret_hash)s, %(scopes)s, %(domains)s)
RETURNING {_COLUMNS}
"""

FIND_KEY_IF_LIVE = """
SELECT k.id, k.tenant, k.secret_hash, k.scopes, k.domains, t.ingest_per_s
FROM api_key k CROSS JOIN LATERAL (SELECT ingest_per_s FROM tenant WHERE id = k.tenant LIMIT 1) t
WHERE k.id = %(id)s AND k.revoked_at IS NULL
"""

LIST_KEYS = f"SELECT {_COLUMNS} FROM api_key WHERE tenant = %(tenant)s ORDER BY created_at DESC, id"

LIST_ALL_KEYS = f"SELECT tenant, {_COLUMNS} FROM api_key ORDER BY created_at DESC, id"

REVOKE_KEY_IF_LIVE = """
UPDATE api_key SET revoked_at = now()
WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND revoked_at IS NULL
RETURNING id
"""
