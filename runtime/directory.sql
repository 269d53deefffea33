-- name: head
SELECT position FROM log_head WHERE app_id = $1

-- name: control_between
SELECT max(position) AS position FROM events WHERE app_id = $1 AND position > $2 AND position <= $3 AND topic = ANY ($4::text[])

-- name: acknowledge
INSERT INTO worker_tails (worker_id, app_id, position)
SELECT $1::uuid, $2::uuid, $3::bigint WHERE NOT EXISTS (SELECT FROM log_head h WHERE h.app_id = $2 AND h.closed)
ON CONFLICT (worker_id, app_id) DO UPDATE SET position = greatest(worker_tails.position, excluded.position)

-- name: behind
SELECT count(*) AS behind
FROM workers w LEFT JOIN worker_tails t ON t.worker_id = w.id AND t.app_id = $1
WHERE w.id <> $3 AND w.beat_at > clock_timestamp() - make_interval(secs => $4) AND w.started_at < $5 AND coalesce(t.position, 0) < $2
