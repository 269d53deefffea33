-- name: register
INSERT INTO workers (id, host, pid, roles) VALUES ($1, $2, $3, $4)

-- name: beat
UPDATE workers SET beat_at = clock_timestamp() WHERE id = $1 RETURNING 1

-- name: leave
DELETE FROM workers WHERE id = $1

-- name: neighbours
SELECT id, pid FROM workers WHERE host = $1 AND id <> $2

-- name: bury
DELETE FROM workers w WHERE w.beat_at < clock_timestamp() - make_interval(secs => $1) AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.worker_id = w.id)
