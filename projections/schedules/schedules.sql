-- name: schema
CREATE TABLE schedules (
    app_id            uuid        NOT NULL,
    trigger_id        uuid        NOT NULL,
    trigger_version   bigint      NOT NULL,
    script_id         uuid        NOT NULL,
    schedule          text        NOT NULL,
    timezone          text        NOT NULL,
    overlap           text        NOT NULL,
    next_due_at       timestamptz,
    tick_version      bigint      NOT NULL,
    last_scheduled_at timestamptz,
    last_fired_at     timestamptz,
    last_execution_id uuid,
    last_skip_reason  text,
    PRIMARY KEY (app_id, trigger_id)
) WITH (fillfactor = 70);
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE next_due_at IS NOT NULL

-- name: save
INSERT INTO schedules SELECT * FROM jsonb_populate_recordset(NULL::schedules, $1::text::jsonb)
ON CONFLICT (app_id, trigger_id) DO UPDATE
SET trigger_version = excluded.trigger_version, script_id = excluded.script_id, schedule = excluded.schedule, timezone = excluded.timezone,
    overlap = excluded.overlap, next_due_at = excluded.next_due_at
RETURNING 1

-- name: tick
UPDATE schedules s
SET tick_version = t.tick_version, next_due_at = t.next_due_at, last_scheduled_at = t.last_scheduled_at, last_fired_at = t.last_fired_at,
    last_execution_id = t.last_execution_id, last_skip_reason = t.last_skip_reason
FROM jsonb_populate_recordset(NULL::schedules, $1::text::jsonb) AS t
WHERE s.app_id = t.app_id AND s.trigger_id = t.trigger_id

-- name: delete
DELETE FROM schedules USING jsonb_populate_recordset(NULL::schedules, $1::text::jsonb) AS gone
WHERE schedules.app_id = gone.app_id AND schedules.trigger_id = gone.trigger_id
