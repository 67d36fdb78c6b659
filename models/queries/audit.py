"""What must hold of all rows together: all that was accepted is at one place, and every inbox's numbers are right.

What an operator asks for reads whole tables, in one snapshot; Postgres keeps what it sorts within its `work_mem`, and
on disk past that. What a worker asks at all times looks at few, each by its indexes.
"""

MOST_LOOKED_AT = 2_000
MOST_UNACCOUNTED = 10_000  # past that, how many more there are changes nothing that anybody does
MOST_LOOKED_AT_AGAIN = 1_000

_NAMED = "jsonb_array_length(coalesce(n.audience -> 'users', '[0]'))"
_BY_NAME = "n.audience ?| '{user,users}'"
# What an inbox need not keep any more, and what was deleted in it, is no longer there to be counted.
_IS_TRIMMED = """EXISTS (
    SELECT 1
    FROM jsonb_array_elements_text(coalesce(n.audience -> 'users', jsonb_build_array(n.audience -> 'user'))) u(name)
    CROSS JOIN LATERAL (SELECT floor_seq FROM inbox WHERE tenant = n.tenant AND user_id = u.name LIMIT 1) i
    WHERE i.floor_seq > 0
)"""

# The first that fits is the state of a notification; one that is nowhere is lost.
_STATES = f"""
WITH waiting AS (
    SELECT notification_id, count(*) AS times, bool_or(due_at <= now()) AS due FROM outbox
    WHERE withdraws IS NULL GROUP BY notification_id
), ended AS (
    SELECT notification_id, bool_or(event = 'cancelled') AS cancelled FROM notification_event
    WHERE event IN ('expired', 'cancelled') GROUP BY notification_id
), delivered AS (
    SELECT notification_id, count(*) AS times, count(DISTINCT inbox_id) AS users FROM delivery GROUP BY notification_id
), suppressed AS (
    SELECT notification_id, count(*) AS users FROM suppression GROUP BY notification_id
), digested AS (
    SELECT notification_id, count(*) AS users FROM digest_entry GROUP BY notification_id
), placed AS (
    SELECT n.id, n.audience, {_BY_NAME} AS by_name, w.times AS waits, p.notification_id IS NOT NULL AS parked,
           b.done_at IS NOT NULL AS done, coalesce(d.times, 0) AS delivered, coalesce(d.users, 0) AS reached,
           coalesce(s.users, 0) AS suppressed, coalesce(g.users, 0) AS digested, n.tenant,
           CASE WHEN w.due THEN 'waiting' WHEN NOT w.due THEN 'scheduled'
                WHEN p.notification_id IS NOT NULL THEN 'parked'
                WHEN e.cancelled THEN 'cancelled' WHEN NOT e.cancelled THEN 'expired'
                WHEN b.done_at IS NOT NULL
                  OR {_BY_NAME} AND (d.times > 0 OR s.users > 0 OR g.users > 0 OR {_NAMED} = 0 OR {_IS_TRIMMED})
                    THEN 'dispatched'
                ELSE 'lost' END AS state
    FROM notification n
    LEFT JOIN waiting w ON w.notification_id = n.id
    LEFT JOIN parked p ON p.notification_id = n.id
    LEFT JOIN broadcast b ON b.notification_id = n.id
    LEFT JOIN ended e ON e.notification_id = n.id
    LEFT JOIN delivered d ON d.notification_id = n.id
    LEFT JOIN suppressed s ON s.notification_id = n.id
    LEFT JOIN digested g ON g.notification_id = n.id
), judged AS (
    SELECT n.id, n.state,
           CASE WHEN n.state = 'lost' THEN 'neither waits, nor is parked, dispatched, cancelled or expired'
                WHEN n.waits > 1 THEN 'waits more than once'
                WHEN n.waits > 0 AND n.parked THEN 'waits, and is parked'
                WHEN n.waits > 0 AND n.done THEN 'has been told to all, and waits'
                WHEN n.reached < n.delivered THEN 'was delivered to somebody more than once'
                WHEN n.by_name AND n.delivered + n.suppressed + n.digested > 0
                     AND n.state IN ('waiting', 'scheduled', 'parked')
                    THEN 'was delivered, and is ' || n.state
                WHEN n.by_name AND n.delivered + n.suppressed + n.digested > 0 AND n.state = 'expired'
                    THEN 'was delivered, and has expired'
                WHEN n.by_name AND n.state = 'dispatched' AND n.delivered + n.suppressed + n.digested <> {_NAMED}
                     AND NOT (n.delivered + n.suppressed + n.digested < {_NAMED} AND {_IS_TRIMMED})
                    THEN 'names ' || {_NAMED} || ' users, was delivered to ' || n.delivered || ' and suppressed for '
                         || n.suppressed || CASE WHEN n.digested > 0 THEN ', and is in digests of ' || n.digested
                                                 ELSE '' END
           END AS fault
    FROM placed n
)"""

COUNT_BY_STATE = f"{_STATES} SELECT state, count(*) AS n, count(fault) AS faults FROM judged GROUP BY state"

FAULTY_NOTIFICATIONS = f"""{_STATES}
SELECT 'notification ' || id AS what, fault FROM judged WHERE fault IS NOT NULL ORDER BY id LIMIT %(limit)s
"""

_INBOXES = """
WITH entries AS (
    SELECT inbox_id, seq, true AS arrival,
           read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL AS unread,
           seen_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL AS unseen
    FROM delivery
    UNION ALL
    SELECT inbox_id, seq, false, false, false FROM inbox_change
), counted AS (
    SELECT e.inbox_id, i.user_id, i.last_seq, i.floor_seq, i.unread, i.unseen,
           count(*) FILTER (WHERE e.arrival) AS deliveries,
           count(*) FILTER (WHERE e.arrival IS FALSE) AS changes,
           count(*) FILTER (WHERE e.unread) AS are_unread,
           count(*) FILTER (WHERE e.unseen) AS are_unseen,
           count(e.seq) FILTER (WHERE e.seq > i.floor_seq) AS kept,
           count(DISTINCT e.seq) FILTER (WHERE e.seq > i.floor_seq AND e.seq <= i.last_seq) AS numbers
    FROM (SELECT id, tenant || '/' || user_id AS user_id, last_seq, floor_seq, unread, unseen FROM inbox) i
    FULL JOIN entries e ON e.inbox_id = i.id
    GROUP BY e.inbox_id, i.user_id, i.last_seq, i.floor_seq, i.unread, i.unseen
), judged AS (
    SELECT coalesce('inbox of ' || user_id, 'inbox ' || inbox_id) AS what, deliveries, changes,
           CASE WHEN user_id IS NULL THEN 'has entries, and does not exist'
                WHEN numbers <> last_seq - floor_seq
                    THEN 'has ' || numbers || ' of the numbers from ' || floor_seq + 1 || ' to ' || last_seq
                WHEN kept <> numbers THEN 'has a number twice, or one past its last'
                WHEN (unread, unseen) <> (are_unread, are_unseen)
                    THEN 'says ' || unread || ' unread and ' || unseen || ' unseen, and has ' || are_unread || ' and '
                         || are_unseen
           END AS fault
    FROM counted
)"""

COUNT_INBOXES = f"""{_INBOXES}
SELECT count(*) AS inboxes, coalesce(sum(deliveries), 0)::bigint AS deliveries,
       coalesce(sum(changes), 0)::bigint AS changes, count(fault) AS faults
FROM judged
"""

FAULTY_INBOXES = f"{_INBOXES} SELECT what, fault FROM judged WHERE fault IS NOT NULL ORDER BY what LIMIT %(limit)s"

_DIGESTS = """
WITH judged AS (
    SELECT e.digest_id, CASE WHEN d.id IS NULL THEN 'has entries, and does not exist'
                             WHEN d.closed_at IS NOT NULL AND d.notification_id IS NULL
                                 THEN 'has entries, and was closed without a notification'
                        END AS fault
    FROM (SELECT DISTINCT digest_id FROM digest_entry) e LEFT JOIN digest d ON d.id = e.digest_id
)"""

COUNT_DIGESTS = f"{_DIGESTS} SELECT count(fault) AS faults FROM judged"

FAULTY_DIGESTS = f"""{_DIGESTS}
SELECT 'digest ' || digest_id AS what, fault FROM judged WHERE fault IS NOT NULL ORDER BY digest_id LIMIT %(limit)s
"""

_OF_NO_NOTIFICATION = " UNION ALL ".join(
    f"SELECT '{table}' AS kind, t.notification_id FROM {table} t "
    "WHERE NOT EXISTS (SELECT 1 FROM notification n WHERE n.id = t.notification_id)"
    for table in (
        *("outbox", "parked", "broadcast", "suppression"),
        *("notification_event", "delivery", "withdrawal", "expiry", "digest_entry"),
    )
)

COUNT_ORPHANS = f"SELECT count(*) AS faults FROM ({_OF_NO_NOTIFICATION}) o"

ORPHANS = f"""
SELECT 'notification ' || notification_id AS what, 'does not exist, and ' || kind || ' has a row of it' AS fault
FROM ({_OF_NO_NOTIFICATION}) o ORDER BY notification_id LIMIT %(limit)s
"""

# --- at all times ----------------------------------------------------------------------------------------------------

# In this order only the primary key is of use; on an empty table the one by user would look as good.
_FIRST_SUPPRESSED = """
                  SELECT 1 FROM (
                      SELECT notification_id AS id FROM suppression WHERE notification_id >= n.id
                      ORDER BY notification_id, user_id LIMIT 1
                  ) s WHERE s.id = n.id
              """
# As in `_STATES`; a test holds one against the other. OFFSET 0 makes each look an index look-up of its own.
_STATE = f"""CASE
        WHEN w.due_at <= now() THEN 'waiting' WHEN w.due_at IS NOT NULL THEN 'scheduled'
        WHEN EXISTS (SELECT 1 FROM parked WHERE notification_id = n.id OFFSET 0) THEN 'parked'
        WHEN e.cancelled THEN 'cancelled' WHEN NOT e.cancelled THEN 'expired'
        WHEN {_BY_NAME} AND EXISTS (SELECT 1 FROM delivery WHERE notification_id = n.id OFFSET 0) THEN 'dispatched'
        WHEN EXISTS (SELECT 1 FROM broadcast WHERE notification_id = n.id AND done_at IS NOT NULL OFFSET 0)
          OR {_BY_NAME} AND (
              EXISTS ({_FIRST_SUPPRESSED})
              OR EXISTS (SELECT 1 FROM digest_entry WHERE notification_id = n.id OFFSET 0)
              OR {_NAMED} = 0 OR {_IS_TRIMMED}
          ) THEN 'dispatched'
        ELSE 'lost' END"""
_WHAT_BECAME_OF_IT = """
CROSS JOIN LATERAL (
    SELECT min(due_at) AS due_at FROM outbox WHERE notification_id = n.id AND withdraws IS NULL OFFSET 0
) w
CROSS JOIN LATERAL (
    SELECT bool_or(event = 'cancelled') AS cancelled FROM notification_event
    WHERE notification_id = n.id AND event IN ('expired', 'cancelled') OFFSET 0
) e"""

# One statement sees one moment, so it does not matter what goes on meanwhile, or how young something is.
LOOK_AT_NOTIFICATIONS = f"""
WITH seen AS MATERIALIZED (
    SELECT id, tenant, audience FROM notification WHERE id > %(after)s::uuid ORDER BY id LIMIT {MOST_LOOKED_AT}
), judged AS MATERIALIZED (
    SELECT n.id, {_STATE} AS state
    FROM seen n {_WHAT_BECAME_OF_IT}
), found AS (
    INSERT INTO unaccounted (notification_id) SELECT id FROM judged WHERE state = 'lost' ORDER BY id
    ON CONFLICT DO NOTHING RETURNING notification_id
)
SELECT (
           SELECT coalesce(json_object_agg(state, n), '{{}}')
           FROM (SELECT state, count(*) AS n FROM judged GROUP BY state) s
       ) AS states,
       (SELECT coalesce(json_agg(notification_id), '[]') FROM found) AS found,
       (SELECT id::text FROM seen ORDER BY id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM seen) < {MOST_LOOKED_AT} AS ended
"""

LOOK_AGAIN = f"""
WITH known AS MATERIALIZED (
    SELECT notification_id FROM unaccounted WHERE notification_id > %(after)s::uuid
    ORDER BY notification_id LIMIT {MOST_LOOKED_AT_AGAIN}
), missing AS MATERIALIZED (
    SELECT n.id
    FROM known s
    CROSS JOIN LATERAL (SELECT id, tenant, audience FROM notification WHERE id = s.notification_id LIMIT 1) n
    {_WHAT_BECAME_OF_IT}
    WHERE {_STATE} = 'lost'
), gone AS (
    DELETE FROM unaccounted WHERE notification_id = ANY (
        ARRAY(SELECT notification_id FROM known EXCEPT SELECT id FROM missing)
    ) RETURNING 1
)
SELECT (SELECT count(*) FROM (SELECT 1 FROM unaccounted LIMIT {MOST_UNACCOUNTED}) u) - (SELECT count(*) FROM gone)
           AS unaccounted,
       (SELECT notification_id::text FROM known ORDER BY notification_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM known) < {MOST_LOOKED_AT_AGAIN} AS ended
"""
