-- name: ensure_head
INSERT INTO log_head (app_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: lock_head
SELECT position, last_recorded_at, closed FROM log_head WHERE app_id = $1 FOR UPDATE

-- name: close_head
UPDATE log_head SET closed = true WHERE app_id = $1 AND NOT closed

-- name: heads
SELECT app_id, position, last_recorded_at, closed, clock_timestamp() AS now FROM log_head WHERE app_id = ANY ($1::uuid[])

-- name: load_streams
SELECT s.app_id, s.stream, h.position, h.last_recorded_at, h.closed, clock_timestamp() AS now, e.originator_version, e.topic, e.state
FROM unnest($1::uuid[], $2::text[]) AS s (app_id, stream)
JOIN log_head h ON h.app_id = s.app_id
LEFT JOIN LATERAL (
    SELECT originator_version, topic, state
    FROM events
    WHERE events.app_id = s.app_id AND originator_id = s.stream
    ORDER BY originator_version DESC
    LIMIT 1
) e ON true

-- name: find_unit_keys
SELECT k.app_id, k.key, e.position, originator_id, originator_version, topic, state, metadata::text AS metadata, e.recorded_at
FROM unnest($1::uuid[], $2::text[]) AS u (app_id, key)
JOIN unit_keys k ON k.app_id = u.app_id AND k.key = u.key
JOIN events e ON e.app_id = k.app_id AND e.position BETWEEN k.first_position AND k.last_position
ORDER BY e.app_id, e.position

-- name: register_writer
INSERT INTO writers (id, batch) VALUES ($1, 0)

-- name: burn_batch
UPDATE writers SET batch = CASE WHEN batch = $2 THEN batch ELSE $2 + 1 END WHERE id = $1 RETURNING batch

-- name: read_events
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM events
WHERE app_id = $1 AND position > $2 AND position <= $4
ORDER BY position
LIMIT $3

-- name: read_filtered
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM events
WHERE app_id = $1 AND position > $2
  AND ($4::text[] IS NULL OR topic = ANY ($4))
  AND ($5::text IS NULL OR originator_id = $5)
  AND ($6::text IS NULL OR metadata ->> 'actor' = $6)
  AND ($7::text IS NULL OR metadata ->> 'correlation_id' = $7)
  AND ($8::timestamptz IS NULL OR recorded_at >= $8)
  AND ($9::timestamptz IS NULL OR recorded_at < $9)
ORDER BY position
LIMIT $3

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

-- name: position_at
SELECT coalesce(max(position), 0) FROM (
    SELECT position FROM events WHERE app_id = $1 AND recorded_at <= $2 ORDER BY position DESC LIMIT 1
) latest

-- name: changed_heads
SELECT app_id, position FROM log_head WHERE last_recorded_at >= $1

-- name: held_fences
SELECT o.id FROM outbox o JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS f (app_id, id, fence) ON o.app_id = f.app_id AND o.id = f.id
WHERE o.fence = f.fence
FOR UPDATE OF o
