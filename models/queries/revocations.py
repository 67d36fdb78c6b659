"""Whose tokens were refused, and since when."""

REVOKE = """
INSERT INTO revocation AS r (tenant, user_id, revoked_at) VALUES (%(tenant)s, %(user)s, clock_timestamp())
ON CONFLICT (tenant, user_id) DO UPDATE SET revoked_at = greatest(r.revoked_at, clock_timestamp())
RETURNING revoked_at
"""

# The same, of a user who is erased. It is the one row that stays of them.
REVOKE_ERASED = """
INSERT INTO revocation AS r (tenant, user_id, revoked_at, erased_at)
VALUES (%(tenant)s, %(user)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (tenant, user_id) DO UPDATE
SET revoked_at = greatest(r.revoked_at, clock_timestamp()), erased_at = greatest(r.erased_at, clock_timestamp())
RETURNING revoked_at
"""

# One row without a user where there is nothing new: when it was read is what the next time goes by.
REVOCATIONS_SINCE = """
SELECT n.read_at, r.tenant, r.user_id, r.revoked_at
FROM (SELECT clock_timestamp() AS read_at) n LEFT JOIN revocation r ON r.revoked_at > %(since)s
"""

REVOCATIONS_OF = """
SELECT q.ord, r.revoked_at
FROM json_to_recordset(%(asked)s::json) AS q(ord int, tenant text, user_id text)
CROSS JOIN LATERAL (
    SELECT revoked_at FROM revocation WHERE tenant = q.tenant AND user_id = q.user_id LIMIT 1
) r
"""
