"""Erasing a user, in pieces that hold no lock for long. Each is whole in itself: what is left can be erased later.

A notification goes when it was for that user alone; where it names others, the user is taken out of its audience. The
piece of a user's trace that leads to a notification (its outbox row, its event, delivery or suppression) goes in the
same transaction, so that nothing is left that leads nowhere, or cannot be found any more.

What is looked for was there, or was accepted, when the erasure began, at `begun`: whatever is added meanwhile, there is
an end to it.
"""

from models.queries.preferences import says_something

MOST_ROWS = 2_000  # in one transaction
_LOOKED_AT = 10_000  # rows of the outbox, events, or notifications, in one statement

_NAMES_THEM = """n.created_at <= %(begun)s::timestamptz
      AND (n.audience ->> 'user' = %(user)s OR n.audience -> 'users' ? %(user)s)"""
_LAST_POSITION = "SELECT position FROM outbox WHERE position > 0 ORDER BY position DESC LIMIT 1"
_LAST_EVENT = "SELECT id FROM notification_event WHERE id > 0 ORDER BY id DESC LIMIT 1"
# OFFSET 0 makes each look an index look-up of its own.
_IS_NOWHERE_ELSE = """NOT EXISTS (SELECT 1 FROM outbox WHERE notification_id = n.id AND withdraws IS NULL OFFSET 0)
      AND NOT EXISTS (SELECT 1 FROM parked WHERE notification_id = n.id OFFSET 0)
      AND NOT EXISTS (SELECT 1 FROM suppression WHERE notification_id = n.id AND user_id = %(user)s OFFSET 0)
      AND NOT EXISTS (
          SELECT 1 FROM delivery d JOIN inbox i ON i.id = d.inbox_id
          WHERE d.notification_id = n.id AND i.tenant = %(tenant)s AND i.user_id = %(user)s OFFSET 0
      )"""
_FOR_NOBODY_ELSE = "(n.audience ->> 'user' = %(user)s OR n.audience -> 'users' = '[]')"

UNSUBSCRIBE_FROM_SOME = f"""
WITH doomed AS MATERIALIZED (
    SELECT topic FROM topic_subscription
    WHERE tenant = %(tenant)s AND user_id = %(user)s AND subscribed_at <= %(begun)s::timestamptz
    ORDER BY topic LIMIT {MOST_ROWS}  -- by topic, then by user: the order in which others lock them, too
    FOR UPDATE
), gone AS (
    DELETE FROM topic_subscription
    WHERE tenant = %(tenant)s AND user_id = %(user)s AND topic = ANY (ARRAY(SELECT topic FROM doomed))
    RETURNING 1
)
SELECT count(*) AS subscriptions FROM gone
"""

# The outbox up to where it ended at the first look. With every stretch those that are parked, and those that an
# operator has put back since the first look, behind that end: what moves meanwhile is seen at one of the three places.
NAMED_IN_OUTBOX = f"""
WITH first_look AS MATERIALIZED (
    SELECT coalesce(%(until)s::bigint, ({_LAST_POSITION}), 0) AS until,
           coalesce(%(event)s::bigint, ({_LAST_EVENT}), 0) AS event
), stretch AS MATERIALIZED (
    SELECT position, notification_id, priority FROM outbox
    WHERE position > %(after)s AND position <= (SELECT until FROM first_look) AND withdraws IS NULL
    ORDER BY position LIMIT {_LOOKED_AT}
), put_back AS (
    SELECT o.notification_id, o.priority
    FROM (
        SELECT notification_id FROM notification_event
        WHERE id > (SELECT event FROM first_look) AND event = 'replayed' OFFSET 0
    ) e
    CROSS JOIN LATERAL (
        SELECT notification_id, priority FROM outbox
        WHERE notification_id = e.notification_id AND withdraws IS NULL LIMIT 1
    ) o
), waiting AS (
    SELECT notification_id, priority FROM stretch
    UNION ALL
    SELECT notification_id, priority FROM parked
    UNION ALL
    SELECT notification_id, priority FROM put_back
)
SELECT (SELECT max(position) FROM stretch) AS last, (SELECT until FROM first_look) AS until,
       (SELECT event FROM first_look) AS event,
       coalesce(json_agg(json_build_array(w.priority, n.id)) FILTER (WHERE n.id IS NOT NULL), '[]') AS named
FROM waiting w
CROSS JOIN LATERAL (
    SELECT n.id FROM notification n WHERE n.id = w.notification_id AND n.tenant = %(tenant)s AND {_NAMES_THEM} LIMIT 1
) n
"""

# Asked again when no dispatcher is at work any more: what was dispatched in between is found by its delivery.
STILL_WAITING = """
SELECT notification_id AS id FROM outbox WHERE notification_id = ANY(%(ids)s::uuid[]) AND withdraws IS NULL
UNION
SELECT notification_id FROM parked WHERE notification_id = ANY(%(ids)s::uuid[])
"""

# What has ended without reaching them: it expired, or was cancelled. What did reach them is found by that. Up to the
# last event at the first look: what waited then has been forgotten before.
NAMED_IN_EVENTS = f"""
WITH first_look AS MATERIALIZED (
    SELECT coalesce(%(until)s::bigint, ({_LAST_EVENT}), 0) AS until
), stretch AS MATERIALIZED (
    SELECT id, notification_id FROM notification_event
    WHERE id > %(after)s AND id <= (SELECT until FROM first_look)
    ORDER BY id LIMIT {_LOOKED_AT}
)
SELECT (SELECT max(id) FROM stretch) AS last, (SELECT until FROM first_look) AS until,
       coalesce(json_agg(DISTINCT n.id) FILTER (WHERE n.id IS NOT NULL), '[]') AS named
FROM stretch s
CROSS JOIN LATERAL (
    SELECT n.id FROM notification n
    WHERE n.id = s.notification_id AND n.tenant = %(tenant)s AND {_NAMES_THEM}
      AND {_IS_NOWHERE_ELSE}
    LIMIT 1
) n
"""

# What retention took out of their inbox left nothing to find it by. So, after what the inbox still had, all of their
# tenant's are looked through; `after` is where the last look ended.
NAMED_IN_NOTIFICATIONS = f"""
WITH stretch AS MATERIALIZED (
    SELECT id, created_at, audience FROM notification
    WHERE tenant = %(tenant)s AND (created_at, id) > (%(after)s::timestamptz, %(after_id)s::uuid)
      AND created_at <= %(begun)s::timestamptz
    ORDER BY created_at, id LIMIT {_LOOKED_AT}
)
SELECT (SELECT created_at FROM stretch ORDER BY created_at DESC, id DESC LIMIT 1) AS after,
       (SELECT id FROM stretch ORDER BY created_at DESC, id DESC LIMIT 1) AS after_id,
       (SELECT coalesce(json_agg(n.id), '[]') FROM stretch n WHERE {_NAMES_THEM} AND {_IS_NOWHERE_ELSE}) AS named
"""

# The lowest numbers that are there go, and the floor rises with them: what is left is an inbox like any other, whose
# past is not kept.
ERASE_LOWEST_NUMBERS = f"""
WITH mine AS MATERIALIZED (
    SELECT id, last_seq, floor_seq FROM inbox WHERE tenant = %(tenant)s AND user_id = %(user)s
), lowest AS MATERIALIZED (
    SELECT e.seq FROM mine m CROSS JOIN LATERAL (
        (SELECT seq FROM delivery WHERE inbox_id = m.id ORDER BY seq LIMIT {MOST_ROWS})
        UNION ALL
        (SELECT seq FROM inbox_change WHERE inbox_id = m.id ORDER BY seq LIMIT {MOST_ROWS})
    ) e
    ORDER BY e.seq LIMIT {MOST_ROWS}
), box AS MATERIALIZED (
    SELECT id, last_seq, floor_seq,
           CASE WHEN (SELECT count(*) FROM lowest) < {MOST_ROWS} THEN last_seq ELSE (SELECT max(seq) FROM lowest) END
               AS floor
    FROM mine
), arrivals AS (
    DELETE FROM delivery d USING box WHERE d.inbox_id = box.id AND d.seq <= box.floor
    RETURNING d.notification_id,
              (d.read_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL)::int AS unread,
              (d.seen_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL)::int AS unseen
), changes AS (
    DELETE FROM inbox_change c USING box WHERE c.inbox_id = box.id AND c.seq <= box.floor RETURNING 1
), acks AS (
    DELETE FROM ack a USING box WHERE a.inbox_id = box.id AND a.seq <= box.floor
), sums AS MATERIALIZED (
    SELECT count(*) AS deliveries, coalesce(sum(unread), 0) AS unread, coalesce(sum(unseen), 0) AS unseen,
           coalesce(array_agg(notification_id), '{{}}') AS notifications
    FROM arrivals
), raised AS (
    UPDATE inbox i
    SET floor_seq = greatest(box.floor, box.floor_seq), unread = i.unread - sums.unread, unseen = i.unseen - sums.unseen
    FROM box, sums WHERE i.id = box.id
)
SELECT sums.deliveries, sums.notifications, (SELECT count(*) FROM changes) AS changes, box.floor, box.last_seq,
       box.floor_seq AS floor_before
FROM box CROSS JOIN sums
"""

DELETE_INBOX = """
WITH gone AS (DELETE FROM inbox WHERE tenant = %(tenant)s AND user_id = %(user)s)
SELECT clock_timestamp() AS at
"""

# Of what was dispatched up to `gone_at`, when the inbox went.
ERASE_SOME_SUPPRESSIONS = f"""
WITH doomed AS MATERIALIZED (
    SELECT s.notification_id FROM suppression s
    CROSS JOIN LATERAL (SELECT tenant FROM notification WHERE id = s.notification_id LIMIT 1) n
    WHERE s.user_id = %(user)s AND n.tenant = %(tenant)s AND s.at <= %(gone_at)s::timestamptz
    ORDER BY s.notification_id LIMIT {MOST_ROWS}
    FOR UPDATE OF s
), gone AS (
    DELETE FROM suppression
    WHERE user_id = %(user)s AND notification_id = ANY (ARRAY(SELECT notification_id FROM doomed))
    RETURNING notification_id
)
SELECT count(*) AS suppressions, coalesce(array_agg(notification_id), '{{}}') AS notifications FROM gone
"""

LOCK_SOME_DIGESTS = f"""
SELECT id, (SELECT max(id) FROM digest WHERE tenant = %(tenant)s AND user_id = %(user)s) AS newest FROM digest
WHERE tenant = %(tenant)s AND user_id = %(user)s AND id <= %(until)s
ORDER BY tenant, user_id, id LIMIT {MOST_ROWS}
FOR UPDATE
"""

# They go when all of their entries have gone. Of what they arrived as, some may not have been dispatched yet.
ERASE_DIGESTS = f"""
WITH doomed AS MATERIALIZED (
    SELECT e.digest_id, e.position
    FROM unnest(%(digests)s::bigint[]) AS a(id)
    CROSS JOIN LATERAL (SELECT digest_id, position FROM digest_entry WHERE digest_id = a.id LIMIT {MOST_ROWS}) e
    LIMIT {MOST_ROWS}
), entries AS (
    DELETE FROM digest_entry e USING doomed d WHERE e.digest_id = d.digest_id AND e.position = d.position
    RETURNING e.notification_id
), gone AS (
    DELETE FROM digest WHERE id = ANY(%(digests)s::bigint[]) AND (SELECT count(*) FROM doomed) < {MOST_ROWS}
    RETURNING notification_id
)
SELECT count(*) AS digests,
       coalesce(array_agg(notification_id) FILTER (WHERE notification_id IS NOT NULL), '{{}}') AS own,
       (SELECT coalesce(array_agg(notification_id), '{{}}') FROM entries) AS notifications
FROM gone
"""

# Its own statement, before the next ones, which then see what whoever cancelled one of them has left. In the order of
# ids: of two erased users whom many notifications name, one waits for the other.
LOCK_THOSE_THAT_NAME_THEM = """
SELECT id FROM notification
WHERE id = ANY(%(ids)s::uuid[]) AND tenant = %(tenant)s
  AND (audience ->> 'user' = %(user)s OR audience -> 'users' ? %(user)s)
ORDER BY id
FOR UPDATE
"""

# In the same order, as the next one.
TAKE_OUT_OF_AUDIENCES = """
WITH shared AS MATERIALIZED (
    SELECT id FROM notification
    WHERE id = ANY(%(ids)s::uuid[]) AND tenant = %(tenant)s AND audience -> 'users' ? %(user)s
    ORDER BY id
    FOR UPDATE
), changed AS (
    UPDATE notification n SET audience = jsonb_set(n.audience, '{users}', (n.audience -> 'users') - %(user)s::text)
    FROM shared s WHERE n.id = s.id
    RETURNING n.audience -> 'users' <> '[]' AS names_others
)
SELECT count(*) FILTER (WHERE names_others) AS shared_notifications FROM changed
"""

# Of what waits, the outbox or the parked row has to be there still: otherwise a dispatcher was faster, or an operator.
FORGET_WAITING = f"""
WITH doomed AS MATERIALIZED (
    SELECT n.id FROM notification n WHERE n.id = ANY(%(ids)s::uuid[]) AND n.tenant = %(tenant)s AND {_FOR_NOBODY_ELSE}
    ORDER BY n.id
    FOR UPDATE
), unqueued AS (
    DELETE FROM outbox o USING doomed d WHERE o.notification_id = d.id RETURNING o.notification_id
), unparked AS (
    DELETE FROM parked p USING doomed d WHERE p.notification_id = d.id RETURNING p.notification_id
), theirs AS MATERIALIZED (
    SELECT notification_id AS id FROM unqueued UNION SELECT notification_id FROM unparked
), events AS (
    DELETE FROM notification_event e USING theirs t WHERE e.notification_id = t.id
), ends AS (
    DELETE FROM expiry e USING theirs t WHERE e.notification_id = t.id
), withdrawals AS (
    DELETE FROM withdrawal w USING theirs t WHERE w.notification_id = t.id
), gone AS (
    DELETE FROM notification n USING theirs t WHERE n.id = t.id RETURNING 1
)
SELECT count(*) AS notifications FROM gone
"""

# An outbox row by which it was to be taken back is left to the dispatcher: whoever holds an inbox waits for none.
FORGET_ENDED = f"""
WITH theirs AS MATERIALIZED (
    SELECT n.id FROM notification n WHERE n.id = ANY(%(ids)s::uuid[]) AND n.tenant = %(tenant)s AND {_FOR_NOBODY_ELSE}
    ORDER BY n.id
    FOR UPDATE
), events AS (
    DELETE FROM notification_event e USING theirs t WHERE e.notification_id = t.id
), ends AS (
    DELETE FROM expiry e USING theirs t WHERE e.notification_id = t.id
), withdrawals AS (
    DELETE FROM withdrawal w USING theirs t WHERE w.notification_id = t.id
), gone AS (
    DELETE FROM notification n USING theirs t WHERE n.id = t.id RETURNING 1
)
SELECT count(*) AS notifications FROM gone
"""

FORGET_PREFERENCES = """
WITH last_seen AS (
    DELETE FROM presence WHERE tenant = %(tenant)s AND user_id = %(user)s
), gone AS (
    DELETE FROM preference WHERE tenant = %(tenant)s AND user_id = %(user)s RETURNING 1
)
SELECT count(*) AS preferences FROM gone
"""

# What somebody has set since then is the next holder's of the name.
FORGET_LANGUAGE_ALONE = f"""
DELETE FROM preference
WHERE tenant = %(tenant)s AND user_id = %(user)s AND NOT ({says_something("body")})
RETURNING user_id
"""

# A broadcast that stopped at them, for now or for good, says how far it is by another name. Nobody who is in its
# audience stands between that name and theirs.
FORGET_CURSORS = """
UPDATE broadcast b
SET cursor = CASE WHEN b.done_at IS NULL THEN coalesce(
        (SELECT max(user_id) FROM topic_subscription
         WHERE tenant = n.tenant AND topic = n.audience ->> 'topic' AND user_id < b.cursor),
        (SELECT max(user_id) FROM inbox WHERE tenant = n.tenant AND n.audience ? 'everyone' AND user_id < b.cursor),
        '') ELSE '' END
FROM notification n
WHERE b.cursor = %(user)s AND n.id = b.notification_id AND n.tenant = %(tenant)s
"""
