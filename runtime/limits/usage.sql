-- name: add
INSERT INTO usage_days AS u (app_id, day, requests, executions)
SELECT app_id, $1, requests, executions FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS counted (app_id, requests, executions)
WHERE NOT EXISTS (SELECT FROM log_head h WHERE h.app_id = counted.app_id AND h.closed) -- of deleted apps nothing is kept
ORDER BY app_id
ON CONFLICT (app_id, day) DO UPDATE SET requests = u.requests + excluded.requests, executions = u.executions + excluded.executions
RETURNING app_id, requests, executions

-- name: day
SELECT requests, executions FROM usage_days WHERE app_id = $1 AND day = $2

-- name: retain
DELETE FROM usage_days WHERE day < $1
