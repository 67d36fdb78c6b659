"""The catalogue of types. A row stays when its type is deleted, without a body: its version never goes back."""

from models.fields import MAX_TYPES

# A statement of its own, before PUT_TYPE_IF_ROOM, which then counts what others have put.
LOCK_CATALOGUE = "SELECT id FROM tenant WHERE id = %(tenant)s FOR NO KEY UPDATE"

# Of those that are there, any can be changed.
PUT_TYPE_IF_ROOM = f"""
INSERT INTO type AS t (tenant, name, body, updated_at)
SELECT %(tenant)s, %(name)s, %(body)s::json, clock_timestamp()
WHERE EXISTS (SELECT 1 FROM type WHERE tenant = %(tenant)s AND name = %(name)s AND body IS NOT NULL)
   OR (SELECT count(*) FROM type WHERE tenant = %(tenant)s AND body IS NOT NULL) < {MAX_TYPES}
ON CONFLICT (tenant, name) DO UPDATE
SET body = excluded.body, version = t.version + 1, updated_at = clock_timestamp()
RETURNING version, updated_at
"""

GET_TYPE = """
SELECT version, body::text AS body, updated_at FROM type
WHERE tenant = %(tenant)s AND name = %(name)s AND body IS NOT NULL
"""

DELETE_TYPE_IF_THERE = """
UPDATE type SET body = NULL, version = version + 1, updated_at = clock_timestamp()
WHERE tenant = %(tenant)s AND name = %(name)s AND body IS NOT NULL
RETURNING version
"""

TYPES_AFTER = """
SELECT name, version, updated_at, body ->> 'priority' AS priority, (body ->> 'ttl_s')::bigint AS ttl_s,
       (body ->> 'mutable')::boolean AS mutable,
       coalesce((body ->> 'critical_overrides')::boolean, true) AS critical_overrides,
       body ->> 'schema' IS NOT NULL AS has_schema,
       ARRAY(SELECT json_object_keys(body -> 'templates')) AS locales
FROM type
WHERE tenant = %(tenant)s AND name > %(after)s AND body IS NOT NULL
  AND (%(domains)s::text[] = '{}' OR split_part(name, '.', 1) = ANY(%(domains)s))
ORDER BY name LIMIT %(limit)s
"""

# One row without a tenant where there is nothing new: when it was read is what the next time goes by. Tenants that
# refuse unregistered types come every time, without a name: there are few, and so it is known when one no longer does.
CHANGES_SINCE = """
SELECT n.read_at, e.tenant, e.name, e.version, e.live
FROM (SELECT clock_timestamp() AS read_at) n
LEFT JOIN (
    SELECT tenant, name, version, body IS NOT NULL AS live FROM type WHERE updated_at > %(since)s
    UNION ALL
    SELECT id, NULL, NULL, NULL FROM tenant WHERE require_types
) e ON true
"""
