"""Tenants: the isolation boundary. What has a column `tenant` never leaves it."""

from models.queries.preferences import says_something

_COLUMNS = """id, jwks_url, previous_secret IS NOT NULL AS in_rotation, ingest_per_s, retention, require_types,
       created_at"""

GET_SECRETS = "SELECT secret, previous_secret, jwks_url FROM tenant WHERE id = %(tenant)s"

GET_TENANT = f"SELECT {_COLUMNS} FROM tenant WHERE id = %(tenant)s"

TENANTS_AFTER = f"SELECT {_COLUMNS} FROM tenant WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"

LIST_TENANTS = f"SELECT {_COLUMNS} FROM tenant ORDER BY created_at, id"

# What is stored for a tenant, kind by kind; each look reads one entry of an index.
_HOLDINGS = {
    "notifications": ("notification", ""),
    "inboxes": ("inbox", ""),
    "rooms": ("room", ""),
    "subscriptions": ("topic_subscription", ""),
    "preferences": ("preference", f" AND {says_something('body')}"),
}
HOLDINGS = " UNION ALL ".join(
    f"(SELECT '{kind}' AS kind FROM {table} WHERE tenant = %(tenant)s{more} LIMIT 1)"
    for kind, (table, more) in _HOLDINGS.items()
)

CREATE_IF_NEW = f"""
INSERT INTO tenant (id, secret, jwks_url, ingest_per_s, retention, require_types)
VALUES (%(tenant)s, %(secret)s, %(jwks_url)s, %(ingest_per_s)s, %(retention)s::jsonb, %(require_types)s)
ON CONFLICT (id) DO NOTHING
RETURNING {_COLUMNS}
"""

# Of each pair, the first says whether the second is to be written; what is not stays.
CHANGE_IF_THERE = f"""
UPDATE tenant SET
    jwks_url = CASE WHEN %(set_jwks_url)s THEN %(jwks_url)s ELSE jwks_url END,
    ingest_per_s = CASE WHEN %(set_ingest_per_s)s THEN %(ingest_per_s)s ELSE ingest_per_s END,
    retention = CASE WHEN %(set_retention)s THEN %(retention)s::jsonb ELSE retention END,
    require_types = CASE WHEN %(set_require_types)s THEN %(require_types)s ELSE require_types END,
    secret = CASE WHEN %(rotate)s THEN %(secret)s ELSE secret END,
    previous_secret = CASE WHEN %(rotate)s THEN secret WHEN %(end_rotation)s THEN NULL ELSE previous_secret END
WHERE id = %(tenant)s
RETURNING {_COLUMNS}
"""

# Its own statement, before DELETE_TENANT, which then sees every key that was made before.
LOCK_TENANT = "SELECT id FROM tenant WHERE id = %(tenant)s FOR UPDATE"

# Of rooms that have nothing in them any more, only the numbers are left.
DELETE_EMPTY_ROOMS = """
DELETE FROM room r WHERE r.tenant = %(tenant)s AND NOT EXISTS (SELECT 1 FROM room_event WHERE room_id = r.id)
"""

# Its keys and its catalogue of types go with it, and what is known of users who never had anything. Keys refer to it,
# so that none can be made meanwhile.
DELETE_TENANT = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM tenant WHERE id = %(tenant)s FOR UPDATE
), keys AS (
    DELETE FROM api_key k USING locked WHERE k.tenant = locked.id
), tokens AS (
    DELETE FROM revocation r USING locked WHERE r.tenant = locked.id
), types AS (
    UPDATE type y SET body = NULL, version = version + 1, updated_at = clock_timestamp()  -- as DELETE_TYPE_IF_THERE
    FROM locked WHERE y.tenant = locked.id AND y.body IS NOT NULL
), seen AS (
    DELETE FROM presence p USING locked WHERE p.tenant = locked.id
), came_with AS (
    DELETE FROM preference p USING locked WHERE p.tenant = locked.id AND NOT {says_something("p.body")}
)
DELETE FROM tenant t USING locked WHERE t.id = locked.id RETURNING t.id
"""

RETENTION_OF_TENANTS = "SELECT id, retention FROM tenant WHERE retention IS NOT NULL ORDER BY id"
