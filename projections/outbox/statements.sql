-- name: schema
CREATE TABLE triggers (
    app_id     uuid        NOT NULL,
    trigger_id uuid        NOT NULL,
    source     text        COLLATE "C" NOT NULL,
    pattern    text        COLLATE "C" NOT NULL,
    ops        text[]      NOT NULL,
    enabled    boolean     NOT NULL,
    script_id  uuid        NOT NULL,
    trigger    jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, trigger_id)
);
CREATE INDEX triggers_match ON triggers (app_id, source, pattern) WHERE enabled;
CREATE INDEX triggers_script ON triggers (app_id, script_id);
CREATE TABLE outbox (
    app_id           uuid        NOT NULL,
    id               uuid        NOT NULL,
    cause_position   bigint      NOT NULL,
    source           text        NOT NULL,
    trigger_id       uuid,
    script_id        uuid        NOT NULL,
    due_at           timestamptz NOT NULL,
    attempt          integer     NOT NULL,
    first_attempt_at timestamptz,
    worker_id        uuid,
    fence            bigint,
    PRIMARY KEY (app_id, id)
) WITH (fillfactor = 70);
CREATE INDEX outbox_due ON outbox (app_id, due_at, id) WHERE worker_id IS NULL;
CREATE INDEX outbox_claimed ON outbox (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX outbox_cron ON outbox (app_id, trigger_id) WHERE source = 'cron'

-- name: save_triggers
INSERT INTO triggers SELECT * FROM jsonb_populate_recordset(NULL::triggers, $1::text::jsonb)
ON CONFLICT (app_id, trigger_id) DO UPDATE
SET source = excluded.source, pattern = excluded.pattern, ops = excluded.ops, enabled = excluded.enabled,
    script_id = excluded.script_id, trigger = excluded.trigger

-- name: delete_triggers
DELETE FROM triggers USING jsonb_populate_recordset(NULL::triggers, $1::text::jsonb) AS gone
WHERE triggers.app_id = gone.app_id AND triggers.trigger_id = gone.trigger_id

-- name: insert_matched
INSERT INTO outbox (app_id, id, cause_position, source, trigger_id, script_id, due_at, attempt, worker_id, fence)
SELECT
    m.app_id, picloud_execution_id(m.recorded_at, m.app_id, m.position, m.trigger_id), m.position, m.source, m.trigger_id, m.script_id, m.recorded_at, 1,
    CASE WHEN m.number <= taker.room THEN taker.worker_id END, CASE WHEN m.number <= taker.room THEN nextval('claim_fences') END
FROM (
    SELECT t.app_id, t.source, t.trigger_id, t.script_id, e.position, e.recorded_at, row_number() OVER (PARTITION BY t.app_id ORDER BY e.position) AS number
    FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::text[]) AS c (app_id, source, subject, pattern)
    JOIN triggers t ON t.app_id = c.app_id AND t.source = c.source AND t.pattern = c.pattern AND t.enabled
    JOIN unnest($5::integer[], $6::bigint[], $7::text[], $8::timestamptz[]) AS e (subject, position, op, recorded_at) ON e.subject = c.subject
    WHERE cardinality(t.ops) = 0 OR e.op = ANY (t.ops)
) AS m
LEFT JOIN unnest($9::uuid[], $10::uuid[], $11::integer[]) AS taker (app_id, worker_id, room) ON taker.app_id = m.app_id
RETURNING app_id, id, cause_position, source, trigger_id, script_id, fence

-- name: insert_tasks
INSERT INTO outbox (app_id, id, cause_position, source, trigger_id, script_id, due_at, attempt, worker_id, fence)
SELECT
    m.app_id, m.id, m.cause_position, m.source, m.trigger_id, m.script_id, m.due_at, 1,
    CASE WHEN m.number <= taker.room THEN taker.worker_id END, CASE WHEN m.number <= taker.room THEN nextval('claim_fences') END
FROM (
    SELECT t.*, row_number() OVER (PARTITION BY t.app_id ORDER BY t.cause_position) AS number
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::uuid[], $6::uuid[], $7::timestamptz[])
        AS t (app_id, id, cause_position, source, trigger_id, script_id, due_at)
) AS m
LEFT JOIN unnest($8::uuid[], $9::uuid[], $10::integer[]) AS taker (app_id, worker_id, room) ON taker.app_id = m.app_id
RETURNING app_id, id, cause_position, source, trigger_id, script_id, fence

-- name: reschedule
UPDATE outbox o
SET due_at = again.due_at, attempt = again.attempt, first_attempt_at = again.first_attempt_at, worker_id = NULL, fence = NULL
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::integer[], $5::timestamptz[]) AS again (app_id, id, due_at, attempt, first_attempt_at)
WHERE o.app_id = again.app_id AND o.id = again.id
RETURNING 1

-- name: remove
DELETE FROM outbox o USING unnest($1::uuid[], $2::uuid[]) AS done (app_id, id) WHERE o.app_id = done.app_id AND o.id = done.id
