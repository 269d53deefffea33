-- name: places
-- Where a channel's events are within a stretch of the log. `left` keeps the planner on the primary key: the streams' own index knows no positions.
-- A compressed state (it does not begin with a brace) may be long once it is read, so it weighs much.
SELECT position, found FROM (
    SELECT position, count(*) OVER () AS found, sum(weight) OVER (ORDER BY position) - weight AS weight_before
    FROM (
        SELECT position, CASE WHEN substring(state FROM 1 FOR 1) = '\x7b'::bytea THEN octet_length(state) ELSE 262144 END AS weight
        FROM events
        WHERE app_id = $1 AND position > $2 AND position <= $3 AND left(originator_id || ':', length($6)) = $6
          AND ($7::text[] IS NULL OR topic = ANY ($7)) AND ($8::text IS NULL OR originator_id = $8)
          AND ($9::text IS NULL OR coalesce(metadata ->> 'actor', 'system') = $9) AND ($10::text IS NULL OR metadata ->> 'correlation_id' = $10)
        ORDER BY position
        LIMIT $4
    ) ahead
) page
WHERE weight_before < $5
ORDER BY position

-- name: head
SELECT position FROM log_head WHERE app_id = $1

-- name: gone
SELECT f.app_id FROM unnest($1::uuid[]) AS f (app_id) WHERE NOT EXISTS (SELECT FROM apps a WHERE a.app_id = f.app_id)

-- name: runs
-- Records of runs that were never queued, since a time of each app; at first those of the last second.
SELECT r.*
FROM unnest($1::uuid[], $2::timestamptz[]) AS a (app_id, since)
CROSS JOIN LATERAL (
    SELECT
        app_id, execution_id, source, script_id, script_version, trigger_id, attempt, outcome, duration_ms, correlation_id, depth, recorded_at,
        started_at + make_interval(secs => duration_ms / 1000) AS ended_at
    FROM execution_records e
    WHERE e.app_id = a.app_id AND e.recorded_at > coalesce(a.since, clock_timestamp() - interval '1 second')
      AND NOT EXISTS (SELECT FROM executions x WHERE x.app_id = e.app_id AND x.execution_id = e.execution_id)
    ORDER BY e.recorded_at
    LIMIT $3
) AS r
ORDER BY r.recorded_at
