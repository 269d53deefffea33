-- name: claim
WITH RECURSIVE apps AS (
    (SELECT app_id FROM outbox WHERE worker_id IS NULL ORDER BY app_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.app_id FROM outbox o WHERE o.worker_id IS NULL AND o.app_id > apps.app_id ORDER BY o.app_id LIMIT 1) FROM apps WHERE apps.app_id IS NOT NULL
),
open_apps AS MATERIALIZED (
    -- A closed log takes no outcome: its rows are nobody's work any more.
    SELECT apps.app_id FROM apps WHERE (SELECT NOT h.closed FROM log_head h WHERE h.app_id = apps.app_id)
),
ready AS (
    SELECT due.place, row_number() OVER (PARTITION BY a.app_id ORDER BY due.due_at, due.id) + coalesce(busy.runs, 0) AS turn, due.due_at, due.id
    FROM open_apps a
    LEFT JOIN unnest($3::uuid[], $4::integer[]) AS busy (app_id, runs) ON busy.app_id = a.app_id
    CROSS JOIN LATERAL (
        SELECT o.ctid AS place, o.id, o.due_at FROM outbox o
        WHERE o.worker_id IS NULL AND o.app_id = a.app_id AND o.due_at <= statement_timestamp()
        ORDER BY o.due_at, o.id
        LIMIT greatest(0, least($2, $5 - coalesce(busy.runs, 0)))
    ) due
),
picked AS MATERIALIZED (
    SELECT place FROM ready ORDER BY turn, due_at, id LIMIT $2
),
-- By place from here on: by id, PostgreSQL may walk through every due time of `outbox_due` for each row.
chosen AS MATERIALIZED (
    SELECT o.ctid AS place FROM outbox o
    WHERE o.ctid = ANY (ARRAY(SELECT place FROM picked)) AND o.fence IS NULL
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE outbox o SET worker_id = $1, fence = nextval('claim_fences')
    WHERE o.ctid = ANY (ARRAY(SELECT place FROM chosen))
    RETURNING o.app_id, o.id, o.cause_position, o.source, o.trigger_id, o.script_id, o.due_at, o.attempt, o.first_attempt_at, o.fence
),
ahead AS (
    SELECT extract(epoch FROM min(following.due_at) - statement_timestamp())::float8 AS in_s
    FROM open_apps a
    CROSS JOIN LATERAL (
        SELECT o.due_at FROM outbox o
        WHERE o.worker_id IS NULL AND o.app_id = a.app_id AND o.due_at > statement_timestamp()
        ORDER BY o.due_at, o.id
        LIMIT 1
    ) following
)
SELECT claimed.*, CASE WHEN (SELECT count(*) FROM chosen) < (SELECT count(*) FROM picked) THEN 0 ELSE ahead.in_s END AS next_in_s
FROM ahead LEFT JOIN claimed ON true

-- name: release
UPDATE outbox SET worker_id = NULL, fence = NULL WHERE app_id = $1 AND id = $2 AND fence = $3

-- name: release_all
UPDATE outbox SET worker_id = NULL, fence = NULL WHERE worker_id = $1

-- name: release_others
UPDATE outbox SET worker_id = NULL, fence = NULL WHERE worker_id = $1 AND fence <> ALL ($2::bigint[])

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
