-- name: runs_of_script
SELECT execution_id, attempt, script_version, source, trigger_id, outcome, status, duration_ms, request_id, started_at, error::text AS error, logs::text AS logs
FROM execution_records
WHERE app_id = $1 AND script_id = $2
  AND ($3::timestamptz IS NULL OR (started_at, execution_id, attempt) < ($3, $4::uuid, $5::integer))
ORDER BY started_at DESC, execution_id DESC, attempt DESC
LIMIT $6

-- name: runs_of_execution
SELECT execution_id, attempt, script_version, source, trigger_id, outcome, status, duration_ms, request_id, started_at, error::text AS error, logs::text AS logs
FROM execution_records
WHERE app_id = $1 AND execution_id = $2
ORDER BY attempt, started_at
LIMIT 100

-- name: floor
-- Where a page stops looking, whatever its filters let pass: $3 rows back in either source; NULL when neither has as many.
SELECT greatest(
    (
        SELECT execution_id FROM executions WHERE app_id = $1 AND execution_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        ORDER BY execution_id DESC OFFSET $3::bigint LIMIT 1
    ),
    (
        SELECT execution_id FROM execution_records WHERE app_id = $1 AND execution_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        ORDER BY execution_id DESC OFFSET $3::bigint LIMIT 1
    )
) AS execution_id

-- name: page
-- The bounds are written so that they are conditions of the index in a generic plan too.
-- Queued executions from their read model; runs that were never queued from their records. Ids grow with time, so the newest come first.
SELECT *
FROM (
    (
        SELECT execution_id, status, source, script_id, script_version, trigger_id, attempt, cause_position, outcome_position, correlation_id, depth, updated_at
        FROM executions
        WHERE app_id = $1 AND execution_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
          AND execution_id >= coalesce($7::uuid, '00000000-0000-0000-0000-000000000000')
          AND ($3::text IS NULL OR status = $3) AND ($4::uuid IS NULL OR script_id = $4) AND ($5::uuid IS NULL OR trigger_id = $5)
        ORDER BY execution_id DESC
        LIMIT $6
    )
    UNION ALL
    (
        SELECT execution_id, status, source, script_id, script_version, trigger_id, attempt, NULL, NULL, correlation_id, depth, updated_at
        FROM (
            SELECT DISTINCT ON (execution_id)
                execution_id, CASE WHEN outcome IN ('returned', 'aborted') THEN 'succeeded' ELSE 'failed' END AS status, source, script_id, script_version,
                trigger_id, attempt, correlation_id, depth, started_at + make_interval(secs => duration_ms / 1000) AS updated_at
            FROM execution_records r
            WHERE app_id = $1 AND execution_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
              AND execution_id >= coalesce($7::uuid, '00000000-0000-0000-0000-000000000000')
              AND ($4::uuid IS NULL OR script_id = $4) AND ($5::uuid IS NULL OR trigger_id = $5)
              AND NOT EXISTS (
                  SELECT FROM executions x
                  WHERE x.app_id = $1 AND x.execution_id = r.execution_id AND x.execution_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                    AND x.execution_id >= coalesce($7::uuid, '00000000-0000-0000-0000-000000000000')
              )
            ORDER BY execution_id DESC, attempt DESC, started_at DESC
        ) runs
        WHERE $3::text IS NULL OR status = $3
        ORDER BY execution_id DESC
        LIMIT $6
    )
) both_kinds
ORDER BY execution_id DESC
LIMIT $6

-- name: one
SELECT execution_id, status, source, script_id, script_version, trigger_id, attempt, cause_position, outcome_position, correlation_id, depth, updated_at
FROM executions
WHERE app_id = $1 AND execution_id = $2

-- name: one_run
SELECT
    execution_id, CASE WHEN outcome IN ('returned', 'aborted') THEN 'succeeded' ELSE 'failed' END AS status, source, script_id, script_version, trigger_id,
    attempt, NULL AS cause_position, NULL AS outcome_position, correlation_id, depth, started_at + make_interval(secs => duration_ms / 1000) AS updated_at
FROM execution_records
WHERE app_id = $1 AND execution_id = $2
ORDER BY attempt DESC, started_at DESC
LIMIT 1

-- name: caller
SELECT actor, request_id FROM execution_records WHERE app_id = $1 AND execution_id = $2 ORDER BY attempt DESC, started_at DESC LIMIT 1
