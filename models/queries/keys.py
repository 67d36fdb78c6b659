"""Tenants and API keys."""

ENSURE_TENANT = """
INSERT INTO tenant (id, secret) VALUES (%(tenant)s, %(secret)s) ON CONFLICT (id) DO NOTHING
"""

GET_TENANT = "SELECT id, secret, previous_secret, jwks_url FROM tenant WHERE id = %(tenant)s"

LIST_TENANTS = """
SELECT id, jwks_url, previous_secret IS NOT NULL AS in_rotation, require_types, created_at
FROM tenant ORDER BY created_at, id
"""

ROTATE_IF_OWN = """
UPDATE tenant SET previous_secret = secret, secret = %(secret)s WHERE id = %(tenant)s AND secret IS NOT NULL
RETURNING id
"""

END_ROTATION = "UPDATE tenant SET previous_secret = NULL WHERE id = %(tenant)s RETURNING id"

SET_JWKS_URL = "UPDATE tenant SET jwks_url = %(url)s WHERE id = %(tenant)s RETURNING id"

SET_REQUIRE_TYPES = "UPDATE tenant SET require_types = %(required)s WHERE id = %(tenant)s RETURNING id"

_COLUMNS = "id, name, scopes, domains, created_at, revoked_at"

CREATE_KEY = f"""
INSERT INTO api_key (id, tenant, name, secret_hash, scopes, domains)
VALUES (%(id)s, %(tenant)s, %(name)s, %(secret_hash)s, %(scopes)s, %(domains)s)
RETURNING {_COLUMNS}
"""

FIND_KEY_IF_LIVE = """
SELECT id, tenant, secret_hash, scopes, domains FROM api_key WHERE id = %(id)s AND revoked_at IS NULL
"""

LIST_KEYS = f"SELECT {_COLUMNS} FROM api_key WHERE tenant = %(tenant)s ORDER BY created_at DESC, id"

LIST_ALL_KEYS = f"SELECT tenant, {_COLUMNS} FROM api_key ORDER BY created_at DESC, id"

REVOKE_KEY_IF_LIVE = """
UPDATE api_key SET revoked_at = now()
WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND revoked_at IS NULL
RETURNING id
"""
