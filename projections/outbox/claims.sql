-- name: claim
WITH RECURSIVE apps AS (
    (SELECT app_id FROM outbox WHERE worker_id IS NULL ORDER BY app_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.app_id FROM outbox o WHERE o.worker_id IS NULL AND o.app_id > apps.app_id ORDER BY o.app_id LIMIT 1) FROM apps WHERE apps.app_id IS NOT NULL
),
ready AS (
    SELECT due.app_id, due.id, row_number() OVER (PARTITION BY due.app_id ORDER BY due.due_at, due.id) + coalesce(busy.runs, 0) AS turn, due.due_at
    FROM apps
    LEFT JOIN unnest($3::uuid[], $4::integer[]) AS busy (app_id, runs) ON busy.app_id = apps.app_id
    CROSS JOIN LATERAL (
        SELECT o.app_id, o.id, o.due_at FROM outbox o
        WHERE o.worker_id IS NULL AND o.app_id = apps.app_id AND o.due_at <= clock_timestamp()
        ORDER BY o.due_at, o.id
        LIMIT greatest(0, least($2, $5 - coalesce(busy.runs, 0)))
    ) due
    -- A closed log takes no outcome: its rows are nobody's work any more.
    WHERE apps.app_id IS NOT NULL AND NOT EXISTS (SELECT FROM log_head h WHERE h.app_id = apps.app_id AND h.closed)
),
chosen AS MATERIALIZED (
    SELECT o.app_id, o.id FROM outbox o
    JOIN (SELECT app_id, id FROM ready ORDER BY turn, due_at, id LIMIT $2) r ON r.app_id = o.app_id AND r.id = o.id
    WHERE o.worker_id IS NULL
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE outbox o SET worker_id = $1, fence = nextval('claim_fences')
FROM chosen
WHERE o.app_id = chosen.app_id AND o.id = chosen.id
RETURNING o.app_id, o.id, o.cause_position, o.source, o.trigger_id, o.script_id, o.due_at, o.attempt, o.first_attempt_at, o.fence

-- name: next_due
WITH RECURSIVE apps AS (
    (SELECT app_id FROM outbox WHERE worker_id IS NULL ORDER BY app_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.app_id FROM outbox o WHERE o.worker_id IS NULL AND o.app_id > apps.app_id ORDER BY o.app_id LIMIT 1) FROM apps WHERE apps.app_id IS NOT NULL
)
SELECT extract(epoch FROM min(first.due_at) - clock_timestamp())::float8 AS in_s
FROM apps
CROSS JOIN LATERAL (SELECT o.due_at FROM outbox o WHERE o.worker_id IS NULL AND o.app_id = apps.app_id ORDER BY o.due_at, o.id LIMIT 1) first
WHERE apps.app_id IS NOT NULL AND NOT EXISTS (SELECT FROM log_head h WHERE h.app_id = apps.app_id AND h.closed)

-- name: release
UPDATE outbox SET worker_id = NULL, fence = NULL WHERE app_id = $1 AND id = $2 AND fence = $3

-- name: release_all
UPDATE outbox SET worker_id = NULL, fence = NULL WHERE worker_id = $1

-- name: orphans
SELECT o.app_id, o.id, o.cause_position, o.source, o.trigger_id, o.script_id, o.due_at, o.attempt, o.first_attempt_at, o.fence
FROM outbox o
WHERE o.worker_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = o.worker_id AND w.beat_at > clock_timestamp() - make_interval(secs => $1))
  AND NOT EXISTS (SELECT FROM log_head h WHERE h.app_id = o.app_id AND h.closed)
ORDER BY o.app_id, o.id
LIMIT $2

-- name: triggers
SELECT t.app_id, t.trigger_id, t.trigger::text AS trigger
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (app_id, trigger_id)
JOIN triggers t ON t.app_id = wanted.app_id AND t.trigger_id = wanted.trigger_id

-- name: depth
SELECT count(*) AS rows, coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0)::float8 AS age_s FROM outbox WHERE due_at <= clock_timestamp()
