"""Rooms: numbered logs of what happens to an entity, kept by count and by age.

One statement numbers and writes a batch of events. The room's row stays locked to the commit, so the order of numbers
is the order of commits, whichever process publishes.
"""

# A room is trimmed in one go when it has a tenth more than it keeps, rather than at each event.
PUBLISH = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rooms)s::json) AS r(
        tenant text, name text, n int, keep_events int, keep_s int)
), input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(events)s::json) AS r(
        tenant text, name text, nth int, event text, data json, idempotency_key text, body_hash text)
), bumped AS (
    INSERT INTO room AS r (tenant, name, last_seq, keep_events, keep_s, trim_at)
    SELECT tenant, name, n, keep_events, keep_s, now() + make_interval(secs => keep_s) FROM wanted
    ORDER BY tenant, name  -- every writer locks rooms in this order: no deadlock
    ON CONFLICT (tenant, name) DO UPDATE
    SET last_seq = r.last_seq + excluded.last_seq, keep_events = excluded.keep_events, keep_s = excluded.keep_s,
        trim_at = CASE WHEN r.last_seq + excluded.last_seq - r.floor_seq > excluded.keep_events * 1.1
                       THEN least(r.trim_at, now()) ELSE coalesce(r.trim_at, excluded.trim_at) END
    RETURNING r.id, r.tenant, r.name, r.last_seq, clock_timestamp() AS at  -- under the lock: later numbers, later times
), written AS (
    INSERT INTO room_event (room_id, seq, event, data, at, idempotency_key, body_hash)
    SELECT b.id, b.last_seq - w.n + i.nth, i.event, i.data, b.at, i.idempotency_key, decode(i.body_hash, 'hex')
    FROM input i
    JOIN wanted w USING (tenant, name)
    JOIN bumped b USING (tenant, name)
)
SELECT tenant, name, last_seq, at FROM bumped
"""

FIND_EVENTS_BY_IDEMPOTENCY_KEY = """
SELECT q.ord, e.seq, encode(e.body_hash, 'hex') AS body_hash
FROM json_to_recordset(%(keys)s::json) AS q(ord int, tenant text, name text, idempotency_key text)
CROSS JOIN LATERAL (SELECT id FROM room WHERE tenant = q.tenant AND name = q.name LIMIT 1) r
CROSS JOIN LATERAL (
    SELECT seq, body_hash FROM room_event WHERE room_id = r.id AND idempotency_key = q.idempotency_key LIMIT 1
) e
"""

ROOM_HEADS = """
SELECT a.ord, coalesce(r.last_seq, 0) AS head, coalesce(r.floor_seq, 0) AS floor
FROM json_to_recordset(%(asked)s::json) AS a(ord int, tenant text, name text)
LEFT JOIN LATERAL (SELECT * FROM room WHERE tenant = a.tenant AND name = a.name LIMIT 1) r ON true
"""

ROOM_LOG_PAGES = """
SELECT a.ord, coalesce(r.last_seq, 0) AS head, coalesce(r.floor_seq, 0) AS floor, e.*
FROM json_to_recordset(%(asked)s::json) AS a(ord int, tenant text, name text, since bigint, size bigint)
LEFT JOIN LATERAL (SELECT * FROM room WHERE tenant = a.tenant AND name = a.name LIMIT 1) r ON true
LEFT JOIN LATERAL (
    SELECT seq, event, data::text AS data, at FROM room_event
    WHERE room_id = r.id AND seq > a.since AND seq <= a.since + a.size
    OFFSET 0  -- stays a subquery, which reads the index from `since` on; joined, it would read the whole room
) e ON true
ORDER BY a.ord, e.seq
"""

# A few rooms and a few events of each at a time: whoever publishes into one of them waits for no longer than that.
MOST_ROOMS_TRIMMED = 10
MOST_EVENTS_TRIMMED = 1_000
KEYS_KEPT_S = 600  # at least, however many events there are: whoever got no answer asks again with the same key

TRIM_ROOMS_IF_DUE = f"""
WITH due AS MATERIALIZED (
    SELECT id, last_seq, floor_seq, keep_events, keep_s FROM room
    WHERE trim_at <= now() ORDER BY trim_at LIMIT {MOST_ROOMS_TRIMMED}
    FOR UPDATE SKIP LOCKED
), bound AS MATERIALIZED (
    SELECT d.id, d.last_seq, d.floor_seq, d.keep_s,
           greatest(
               d.floor_seq,
               least(d.last_seq - d.keep_events, d.floor_seq + {MOST_EVENTS_TRIMMED}, young.seq - 1),
               old.seq
           ) AS floor
    FROM due d
    CROSS JOIN LATERAL (
        SELECT min(e.seq) AS seq FROM room_event e
        WHERE e.room_id = d.id AND e.seq > d.floor_seq
          AND e.seq <= least(d.last_seq - d.keep_events, d.floor_seq + {MOST_EVENTS_TRIMMED})
          AND e.idempotency_key IS NOT NULL AND e.at > now() - make_interval(secs => {KEYS_KEPT_S})
    ) young
    CROSS JOIN LATERAL (
        SELECT max(o.seq) AS seq
        FROM (
            SELECT e.seq, e.at FROM room_event e WHERE e.room_id = d.id AND e.seq > d.floor_seq
            ORDER BY e.seq LIMIT {MOST_EVENTS_TRIMMED}
        ) o
        WHERE o.at <= now() - make_interval(secs => d.keep_s)
    ) old
), gone AS (
    DELETE FROM room_event e USING bound b WHERE e.room_id = b.id AND e.seq > b.floor_seq AND e.seq <= b.floor
), moved AS (
    UPDATE room r
    SET floor_seq = b.floor,
        trim_at = CASE WHEN b.floor - b.floor_seq >= {MOST_EVENTS_TRIMMED} THEN now()
                       ELSE next.at + make_interval(secs => b.keep_s) END  -- null where nothing is left
    FROM bound b
    LEFT JOIN LATERAL (
        SELECT e.at FROM room_event e WHERE e.room_id = b.id AND e.seq > b.floor ORDER BY e.seq LIMIT 1
    ) next ON true
    WHERE r.id = b.id
    RETURNING b.floor - b.floor_seq AS trimmed
)
SELECT count(*) AS rooms, coalesce(sum(trimmed), 0)::bigint AS events FROM moved
"""
