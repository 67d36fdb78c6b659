"""A tenant's notifications, newest first, as its backends look through them.

What is filtered by stands in no index of its own: each would cost every ingest. So a statement looks at the next
`WINDOW` notifications and no more, and whoever wants a rare kind asks again from where the window ends.
"""

WINDOW = 10_000

# The same as `GET /v1/notifications/{id}` says; a test holds one against the other.
_STATUS = """
CASE WHEN EXISTS (SELECT 1 FROM notification_event
                  WHERE notification_id = n.id AND event = 'cancelled') THEN 'cancelled'
     WHEN o.due_at IS NOT NULL THEN
         CASE WHEN n.deliver_at IS NOT NULL AND o.due_at > n.created_at AND o.attempts = 0 THEN 'scheduled'
              WHEN o.attempts > 0 OR EXISTS (SELECT 1 FROM broadcast WHERE notification_id = n.id) THEN 'dispatching'
              ELSE 'accepted' END
     WHEN EXISTS (SELECT 1 FROM parked WHERE notification_id = n.id) THEN 'dispatching'
     WHEN EXISTS (SELECT 1 FROM notification_event
                  WHERE notification_id = n.id AND event IN ('expired', 'withdrawn')) THEN 'expired'
     ELSE 'dispatched' END"""

_RANGE = """
    FROM notification n
    WHERE n.tenant = %(tenant)s AND n.created_at > %(after)s::timestamptz
      AND (n.created_at, n.id) < (%(before)s::timestamptz, %(before_id)s::uuid)
    ORDER BY n.created_at DESC, n.id DESC"""

_FILTERS = {
    "type": "n.type = %(type)s",
    "domain": "n.domain = %(domain)s",
    "domains": "n.domain = ANY(%(domains)s)",
    "priority": "n.priority = %(priority)s",
    "to": "(n.audience ->> 'user' = %(to)s OR n.audience -> 'users' ? %(to)s)",
    "status": f"{_STATUS} = %(status)s",
}


def list_notifications(*filters: str) -> str:
    """Return the statement that lists those of the next window that pass `filters`, which are parameters' names."""
    wanted = " AND ".join(_FILTERS[name] for name in filters) or "true"
    return f"""
SELECT n.id::text AS id, n.type, n.domain, n.priority, n.audience, n.title, n.body, n.data::text AS data, n.action_url,
       n.actor::text AS actor, n.collapse_key, n.deliver_at, n.expires_at, n.created_at, {_STATUS} AS status
FROM (
    SELECT *{_RANGE}
    LIMIT {WINDOW}
) n
LEFT JOIN LATERAL (SELECT due_at, attempts FROM outbox WHERE notification_id = n.id AND withdraws IS NULL LIMIT 1) o
    ON true
WHERE {wanted}
ORDER BY n.created_at DESC, n.id DESC
LIMIT %(limit)s
"""


END_OF_WINDOW = f"""
SELECT n.created_at, n.id::text AS id{_RANGE}
OFFSET {WINDOW - 1} LIMIT 1
"""
