-- name: schema
CREATE TABLE executions (
    app_id           uuid        NOT NULL,
    execution_id     uuid        NOT NULL,
    status           text        NOT NULL,
    source           text        NOT NULL,
    script_id        uuid        NOT NULL,
    script_version   integer,
    trigger_id       uuid,
    cause_position   bigint      NOT NULL,
    outcome_position bigint      NOT NULL,
    attempt          integer     NOT NULL,
    correlation_id   uuid,
    depth            integer     NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (app_id, execution_id)
);
CREATE INDEX executions_cause ON executions (app_id, cause_position)

-- name: save
INSERT INTO executions AS x (
    app_id, execution_id, status, source, script_id, script_version, trigger_id, cause_position, outcome_position, attempt, correlation_id, depth, updated_at
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::integer[], $7::uuid[], $8::bigint[], $9::bigint[], $10::integer[], $11::uuid[], $12::integer[],
    $13::timestamptz[]
)
ON CONFLICT (app_id, execution_id) DO UPDATE
SET status = excluded.status, source = excluded.source, script_id = excluded.script_id, script_version = excluded.script_version,
    trigger_id = excluded.trigger_id, cause_position = excluded.cause_position, outcome_position = excluded.outcome_position, attempt = excluded.attempt,
    correlation_id = excluded.correlation_id, depth = excluded.depth, updated_at = excluded.updated_at

-- name: cancel
UPDATE executions x
SET status = 'canceled', outcome_position = c.position, updated_at = c.recorded_at
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[]) AS c (app_id, execution_id, position, recorded_at)
WHERE x.app_id = c.app_id AND x.execution_id = c.execution_id

-- name: retain
DELETE FROM executions
WHERE app_id = $1 AND updated_at < $2 AND CASE WHEN $3 THEN status = 'abandoned' ELSE status NOT IN ('abandoned', 'queued', 'scheduled', 'retrying') END
