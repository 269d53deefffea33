-- name: ensure_heads
INSERT INTO log_head (app_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING

-- name: lock_head
SELECT position, epoch, last_recorded_at, closed FROM log_head WHERE app_id = $1 FOR UPDATE

-- name: take_turn
SELECT position, epoch, last_recorded_at, closed FROM picloud_take_turn($1, $2, $3)

-- name: end_turn
SELECT pg_advisory_unlock($1, $2)

-- name: close_head
INSERT INTO log_head AS h (app_id, closed) VALUES ($1, true) ON CONFLICT (app_id) DO UPDATE SET closed = true, epoch = h.epoch + 1 WHERE NOT h.closed

-- name: note_dropped
UPDATE log_head SET dropped = true WHERE app_id = $1 AND closed

-- name: head
SELECT position FROM log_head WHERE app_id = $1

-- name: heads
SELECT app_id, position, epoch, last_recorded_at, closed FROM log_head WHERE app_id = ANY ($1::uuid[])

-- name: free_heads
SELECT app_id, position, epoch, last_recorded_at, closed FROM log_head WHERE app_id = ANY ($1::uuid[]) FOR UPDATE SKIP LOCKED

-- name: load_streams
-- The state of those that are wanted whole, and of others if it has at most $4 bytes.
SELECT
    s.app_id, s.stream, h.position, h.epoch, h.last_recorded_at, h.closed, clock_timestamp() AS now, e.originator_version, e.topic, e.recorded_at,
    CASE WHEN s.whole OR octet_length(e.state) <= $4 THEN e.state END AS state
FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS s (app_id, stream, whole)
JOIN log_head h ON h.app_id = s.app_id
LEFT JOIN LATERAL (
    SELECT originator_version, topic, state, recorded_at
    FROM events
    WHERE events.app_id = s.app_id AND originator_id = s.stream
    ORDER BY originator_version DESC
    LIMIT 1
) e ON true

-- name: load_versions
-- The state of those that were read as absent alone: it says whether they are. Of what was found, however long it is, the version says enough.
SELECT s.stream, e.originator_version, e.topic, CASE WHEN s.absent THEN e.state END AS state
FROM unnest($2::text[], $3::boolean[]) AS s (stream, absent)
LEFT JOIN LATERAL (
    SELECT originator_version, topic, state
    FROM events
    WHERE events.app_id = $1 AND originator_id = s.stream
    ORDER BY originator_version DESC
    LIMIT 1
) e ON true

-- name: find_unit_keys
SELECT k.app_id, k.key, e.position, originator_id, originator_version, topic, state, metadata::text AS metadata, e.recorded_at
FROM unnest($1::uuid[], $2::text[]) AS u (app_id, key)
JOIN unit_keys k ON k.app_id = u.app_id AND k.key = u.key
JOIN events e ON e.app_id = k.app_id AND e.position BETWEEN k.first_position AND k.last_position
ORDER BY e.app_id, e.position

-- name: held_fences
SELECT o.id, o.fence
FROM outbox o JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS f (app_id, id, fence) ON o.app_id = f.app_id AND o.id = f.id
WHERE o.fence = f.fence
FOR UPDATE OF o

-- name: burn_heads
UPDATE log_head h SET epoch = h.epoch + 1
FROM unnest($1::uuid[], $2::bigint[]) AS judged (app_id, position)
WHERE h.app_id = judged.app_id AND h.position = judged.position

-- name: is_committed
SELECT EXISTS (SELECT FROM events WHERE app_id = $1 AND position = $2 AND metadata ->> 'unit_id' = $3)

-- name: read_events
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM events
WHERE app_id = $1 AND position > $2 AND position <= $4
ORDER BY position
LIMIT $3

-- name: read_page
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM (
    SELECT *, sum(octet_length(state)) OVER (ORDER BY position) - octet_length(state) AS bytes_before
    FROM (SELECT * FROM events WHERE app_id = $1 AND position > $2 ORDER BY position LIMIT $3) AS ahead
) AS page
WHERE bytes_before < $4
ORDER BY position

-- name: read_stream
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM events
WHERE app_id = $1 AND originator_id = $2 AND position <= $3
ORDER BY originator_version

-- name: read_stream_version
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM events
WHERE app_id = $1 AND originator_id = $2 AND originator_version = $3

-- name: read_positions
SELECT e.app_id, e.position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM unnest($1::uuid[], $2::bigint[]) AS p (app_id, position)
JOIN events e ON e.app_id = p.app_id AND e.position = p.position

-- name: read_causes
SELECT
    app_id, position, originator_id, originator_version, topic, CASE WHEN coalesce(bytes_before, 0) < $3 THEN state END AS state, metadata::text AS metadata, recorded_at,
    before_topic, CASE WHEN coalesce(bytes_before, 0) < $3 THEN before_state END AS before_state
FROM (
    SELECT
        e.*, b.topic AS before_topic, b.state AS before_state,
        sum(octet_length(e.state) + coalesce(octet_length(b.state), 0)) OVER (ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) AS bytes_before
    FROM unnest($1::uuid[], $2::bigint[]) AS p (app_id, position)
    JOIN events e ON e.app_id = p.app_id AND e.position = p.position
    LEFT JOIN events b ON b.app_id = e.app_id AND b.originator_id = e.originator_id AND b.originator_version = e.originator_version - 1
) AS causes

-- name: position_at
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, position FROM log_head WHERE app_id = $1
    UNION ALL
    SELECT CASE WHEN e.recorded_at <= $2 THEN e.position ELSE low END, CASE WHEN e.recorded_at <= $2 THEN high ELSE e.position - 1 END
    FROM search JOIN events e ON e.app_id = $1 AND e.position = (low + high + 1) / 2
    WHERE low < high
)
SELECT coalesce(max(low), 0) AS position FROM search WHERE low = high

-- name: notify
SELECT pg_notify($1, $2)

-- name: tails
SELECT clock_timestamp() AS now, count(*) AS tails FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1

-- name: changed_heads
SELECT app_id, position FROM log_head WHERE last_recorded_at >= $1
