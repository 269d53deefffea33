-- name: statistics
-- One statement, so that all of it is of one moment.
SELECT 'as_of' AS part, NULL::text AS kind, NULL::date AS day, NULL::uuid AS subject, NULL::text AS name,
    at.position AS first, coalesce(h.position, 0) AS second, NULL::bigint AS third, e.recorded_at
FROM (SELECT coalesce((SELECT position FROM projection_checkpoints WHERE projection = 'statistics' AND app_id = $1), 0) AS position) AS at
LEFT JOIN log_head h ON h.app_id = $1
LEFT JOIN events e ON e.app_id = $1 AND e.position = at.position
UNION ALL
SELECT 'total', kind, NULL, NULL, name, count, NULL, NULL, NULL
FROM statistics_totals
WHERE app_id = $1 AND kind IN ('dead_letters', 'events', 'executions')
UNION ALL
SELECT 'size', kind, NULL, NULL, NULL, items, bytes, collections, NULL
FROM statistics_sizes
WHERE app_id = $1
UNION ALL
SELECT 'day', kind, day, NULL, name, count, NULL, NULL, NULL
FROM statistics_days
WHERE app_id = $1 AND kind IN ('dead_letters', 'events', 'executions') AND day BETWEEN $2 AND $3
UNION ALL
SELECT 'script', NULL, NULL, subject, name, count, place, NULL, NULL
FROM (
    SELECT subject, name, count, dense_rank() OVER (ORDER BY of_script DESC, subject) AS place
    FROM (
        SELECT subject, name, sum(count)::bigint AS count, sum(sum(count)) OVER (PARTITION BY subject) AS of_script
        FROM statistics_days
        WHERE app_id = $1 AND kind = 'scripts' AND day BETWEEN $2 AND $3
        GROUP BY subject, name
    ) AS scripts
) AS placed
WHERE place <= $4
