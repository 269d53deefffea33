-- name: anchors
-- Where an execution has appended: its own stream's events, newest first, and what its records say of its units.
(
    SELECT position, NULL::bigint AS first, topic
    FROM events
    WHERE app_id = $1 AND originator_id = $2
    ORDER BY originator_version DESC
    LIMIT $4
)
UNION ALL
(
    SELECT last_position, first_position, NULL
    FROM execution_records
    WHERE app_id = $1 AND execution_id = $3 AND last_position IS NOT NULL
    ORDER BY attempt DESC, started_at DESC
    LIMIT $4
)

-- name: first_of_root
-- The first event of a root execution of which there is no record; looked for among so many that share its correlation id.
WITH chain AS MATERIALIZED (
    SELECT position, metadata FROM events WHERE app_id = $1 AND metadata ->> 'correlation_id' = $2 LIMIT $3
)
SELECT position FROM chain WHERE metadata ->> 'execution_id' = $2 ORDER BY position LIMIT 1

-- name: events
SELECT e.position, e.originator_id AS stream, e.originator_version AS version, e.topic, coalesce(e.metadata ->> 'actor', 'system') AS actor, e.recorded_at
FROM unnest($2::bigint[], $3::bigint[]) AS r (first, last)
JOIN events e ON e.app_id = $1 AND e.position >= r.first AND e.position <= r.last
WHERE e.metadata ->> 'execution_id' = $4 AND e.position > $5
ORDER BY e.position
LIMIT $6

-- name: children
-- Executions that events of these executions have triggered or asked for, of each so many; the events are looked for among these positions.
SELECT p.execution_id AS parent_id, c.*
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS p (execution_id, first, last)
CROSS JOIN LATERAL (
    SELECT
        x.execution_id, x.status, x.source, x.script_id, x.script_version, x.trigger_id, x.attempt, x.cause_position, x.outcome_position, x.correlation_id,
        x.depth, x.updated_at
    FROM executions x
    JOIN events e ON e.app_id = $1 AND e.position = x.cause_position
    WHERE x.app_id = $1 AND x.cause_position >= p.first AND x.cause_position <= p.last
      AND x.execution_id <> p.execution_id AND e.metadata ->> 'execution_id' = p.execution_id::text
    ORDER BY x.cause_position, x.execution_id
    LIMIT $5
) AS c
ORDER BY c.cause_position, c.execution_id

-- name: pending
-- Executions that some events have triggered and that have no outcome yet: their ids follow from event and trigger.
SELECT
    o.id AS execution_id, 'queued' AS status, o.source, o.script_id, NULL::integer AS script_version, o.trigger_id, 0 AS attempt, o.cause_position,
    NULL::bigint AS outcome_position, (e.metadata ->> 'correlation_id')::uuid AS correlation_id, coalesce((e.metadata ->> 'depth')::integer, 0) + 1 AS depth,
    e.recorded_at AS updated_at
FROM unnest($2::bigint[]) AS p (position)
JOIN events e ON e.app_id = $1 AND e.position = p.position
JOIN triggers t ON t.app_id = $1 AND t.source = CASE split_part(e.topic, '.', 1) WHEN 'executions' THEN 'dead_letter' ELSE split_part(e.topic, '.', 1) END
JOIN outbox o ON o.app_id = $1 AND o.id = picloud_execution_id(e.recorded_at, $1, e.position, t.trigger_id)
WHERE NOT EXISTS (SELECT FROM executions x WHERE x.app_id = $1 AND x.execution_id = o.id)
ORDER BY o.cause_position, o.id
LIMIT $3
