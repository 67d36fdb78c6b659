"""What a user reads and does: lists, counts, the log, actions. Numbering and counting share the inbox's row lock."""

from models.states import Action, ListStatus

_CONTENT = """n.id::text AS id, n.type, n.domain, n.priority,
       CASE WHEN d.locale IS NULL THEN n.title ELSE n.texts -> d.locale ->> 'title' END AS title,
       CASE WHEN d.locale IS NULL THEN n.body ELSE n.texts -> d.locale ->> 'body' END AS body, n.data::text AS data,
       n.action_url, n.actor::text AS actor, n.collapse_key, n.created_at, n.expires_at"""

HEADS = """
SELECT a.ord, coalesce(i.id, 0) AS inbox, coalesce(i.last_seq, 0) AS head, coalesce(i.floor_seq, 0) AS floor,
       coalesce(i.unread, 0) AS unread, coalesce(i.unseen, 0) AS unseen
FROM json_to_recordset(%(asked)s::json) AS a(ord int, tenant text, user_id text)
LEFT JOIN LATERAL (SELECT * FROM inbox WHERE tenant = a.tenant AND user_id = a.user_id LIMIT 1) i ON true
"""

# Arrivals stand in the log as they arrived: the changes that follow bring them up to date, so that replay is exact.
LOG_PAGES = f"""
SELECT a.ord, coalesce(i.last_seq, 0) AS head, coalesce(i.floor_seq, 0) AS floor,
       coalesce(i.unread, 0) AS unread, coalesce(i.unseen, 0) AS unseen, e.*
FROM json_to_recordset(%(asked)s::json) AS a(ord int, tenant text, user_id text, since bigint, size bigint)
LEFT JOIN LATERAL (SELECT * FROM inbox WHERE tenant = a.tenant AND user_id = a.user_id LIMIT 1) i ON true
LEFT JOIN LATERAL (
    SELECT d.seq, NULL AS action, NULL AS seqs, NULL AS up_to, NULL AS at, d.silent, d.collapsed, {_CONTENT}
    FROM delivery d JOIN notification n ON n.id = d.notification_id
    WHERE d.inbox_id = i.id AND d.seq > a.since AND d.seq <= a.since + a.size AND d.deleted_at IS NULL
    UNION ALL
    SELECT c.seq, c.action, c.seqs, c.up_to, c.at, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM inbox_change c
    WHERE c.inbox_id = i.id AND c.seq > a.since AND c.seq <= a.since + a.size
) e ON true
ORDER BY a.ord, e.seq
"""

_STATUS_FILTERS = {
    ListStatus.ACTIVE: "AND d.archived_at IS NULL",
    ListStatus.UNREAD: "AND d.read_at IS NULL AND d.archived_at IS NULL",
    ListStatus.UNSEEN: "AND d.seen_at IS NULL AND d.read_at IS NULL AND d.archived_at IS NULL",
    ListStatus.ARCHIVED: "AND d.archived_at IS NOT NULL",
    ListStatus.ALL: "",
}


# Whoever may see some domains only is told what waits in those. It costs what waits in the inbox.
_COUNTS_OF_DOMAINS = """
CROSS JOIN LATERAL (
    SELECT count(*) AS unread, count(*) FILTER (WHERE d.seen_at IS NULL) AS unseen
    FROM delivery d
    WHERE d.inbox_id = i.id AND d.read_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL
      AND d.domain = ANY(%(domains)s)
) c"""


def list_deliveries(
    status: ListStatus,
    *,
    domain: bool,
    type_: bool,
    priority: bool,
    before: bool,
    one: bool = False,
    domains: bool = False,
) -> str:
    """Return the list's statement: a row per delivery beside the inbox's numbers; where none fit, one row of nulls.

    With `domains`, both are of those domains alone.
    """
    filters = [
        _STATUS_FILTERS[status],
        "AND d.domain = %(domain)s" if domain else "",
        "AND d.type = %(type)s" if type_ else "",
        "AND d.priority = %(priority)s" if priority else "",
        "AND d.seq < %(before)s" if before else "",
        "AND d.seq = %(seq)s" if one else "",
        "AND d.domain = ANY(%(domains)s)" if domains else "",
    ]
    counts = "c" if domains else "i"
    return f"""
SELECT i.id AS inbox, i.last_seq AS head, {counts}.unread, {counts}.unseen, e.*
FROM inbox i{_COUNTS_OF_DOMAINS if domains else ""}
LEFT JOIN LATERAL (
    SELECT d.seq, d.seen_at, d.read_at, d.archived_at, d.silent, d.collapsed, {_CONTENT}
    FROM delivery d JOIN notification n ON n.id = d.notification_id
    WHERE d.inbox_id = i.id AND d.deleted_at IS NULL {" ".join(part for part in filters if part)}
    ORDER BY d.seq DESC
    LIMIT %(limit)s
) e ON true
WHERE i.tenant = %(tenant)s AND i.user_id = %(user)s
ORDER BY e.seq DESC
"""


# It reads one partial index: it costs what waits, not what the inbox holds.
COUNTS_BY_DOMAIN = """
SELECT i.id AS inbox, i.last_seq AS head, e.domain, e.unread, e.unseen
FROM inbox i
LEFT JOIN LATERAL (
    SELECT d.domain, count(*) AS unread, count(*) FILTER (WHERE d.seen_at IS NULL) AS unseen
    FROM delivery d
    WHERE d.inbox_id = i.id AND d.read_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL
    GROUP BY d.domain
) e ON true
WHERE i.tenant = %(tenant)s AND i.user_id = %(user)s
ORDER BY e.domain
"""

# Its own statement, before the action's: the action then sees everything that was committed before the lock.
LOCK_INBOX = "SELECT id FROM inbox WHERE tenant = %(tenant)s AND user_id = %(user)s FOR UPDATE"

_CHANGES = {
    Action.SEEN: ("seen_at = now()", "d.seen_at IS NULL"),
    Action.READ: ("read_at = now(), seen_at = coalesce(d.seen_at, now())", "d.read_at IS NULL"),
    Action.UNREAD: ("read_at = NULL", "d.read_at IS NOT NULL"),
    Action.ARCHIVE: ("archived_at = now()", "d.archived_at IS NULL"),
    Action.UNARCHIVE: ("archived_at = NULL", "d.archived_at IS NOT NULL"),
    Action.DELETE: ("deleted_at = now()", "true"),
}


def _act(action: Action, *, up_to: bool) -> str:
    change, guard = _CHANGES[action]
    target = "d.seq <= %(up_to)s" if up_to else "d.seq = ANY(%(seqs)s)"
    recorded = "NULL::bigint[], least(%(up_to)s, box.last_seq)" if up_to else "sums.seqs, NULL::bigint"
    gathered = "NULL::bigint[]" if up_to else "array_agg(t.seq ORDER BY t.seq)"
    return f"""
WITH box AS MATERIALIZED (
    SELECT id, last_seq, unread, unseen FROM inbox WHERE tenant = %(tenant)s AND user_id = %(user)s
), before AS MATERIALIZED (
    SELECT d.seq, d.read_at IS NULL AND d.archived_at IS NULL AS unread,
           d.seen_at IS NULL AND d.archived_at IS NULL AS unseen
    FROM delivery d JOIN box ON d.inbox_id = box.id
    WHERE {target} AND d.deleted_at IS NULL AND {guard}
), touched AS (
    UPDATE delivery d SET {change}
    FROM before b, box
    WHERE d.inbox_id = box.id AND d.seq = b.seq
    RETURNING d.seq, b.unread AS was_unread, b.unseen AS was_unseen,
              d.read_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL AS unread,
              d.seen_at IS NULL AND d.archived_at IS NULL AND d.deleted_at IS NULL AS unseen
), sums AS MATERIALIZED (
    SELECT count(*) AS changed, {gathered} AS seqs,
           coalesce(sum(t.unread::int - t.was_unread::int), 0) AS unread,
           coalesce(sum(t.unseen::int - t.was_unseen::int), 0) AS unseen
    FROM touched t
), bumped AS (
    UPDATE inbox i SET last_seq = i.last_seq + 1, unread = i.unread + sums.unread, unseen = i.unseen + sums.unseen
    FROM sums, box
    WHERE i.id = box.id AND sums.changed > 0
    RETURNING i.last_seq, i.unread, i.unseen
), noted AS (
    INSERT INTO inbox_change (inbox_id, seq, action, seqs, up_to)
    SELECT box.id, bumped.last_seq, %(action)s, {recorded} FROM bumped, box, sums
    RETURNING seqs, up_to, at
)
SELECT sums.changed, coalesce(bumped.last_seq, box.last_seq) AS seq, coalesce(bumped.unread, box.unread) AS unread,
       coalesce(bumped.unseen, box.unseen) AS unseen, noted.seqs, noted.up_to, noted.at
FROM box CROSS JOIN sums LEFT JOIN bumped ON true LEFT JOIN noted ON true
"""


ACT_ON_SEQS = {action: _act(action, up_to=False) for action in Action}
ACT_UP_TO = {action: _act(action, up_to=True) for action in Action}
