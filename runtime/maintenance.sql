-- name: try_lock
SELECT pg_try_advisory_lock(421, $1::bigint::bit(32)::integer)

-- name: unlock
SELECT pg_advisory_unlock(421, $1::bigint::bit(32)::integer)

-- name: old_executions
SELECT DISTINCT app_id FROM executions JOIN log_head h USING (app_id) WHERE NOT h.closed AND updated_at < $1 AND status NOT IN ('abandoned', 'queued', 'scheduled', 'retrying')

-- name: old_dead_letters
SELECT DISTINCT app_id FROM dead_letters JOIN log_head h USING (app_id) WHERE NOT h.closed AND dead_lettered_at < $1

-- name: old_abandoned
SELECT DISTINCT app_id FROM executions JOIN log_head h USING (app_id) WHERE NOT h.closed AND updated_at < $1 AND status = 'abandoned'
