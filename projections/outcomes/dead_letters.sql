-- name: schema
CREATE TABLE dead_letters (
    app_id           uuid        NOT NULL,
    dead_letter_id   uuid        NOT NULL,
    source           text        NOT NULL,
    script_id        uuid        NOT NULL,
    trigger_id       uuid,
    cause_position   bigint      NOT NULL,
    attempts         integer     NOT NULL,
    reason           text        NOT NULL,
    last_error       jsonb       NOT NULL,
    first_attempt_at timestamptz NOT NULL,
    last_attempt_at  timestamptz NOT NULL,
    depth            integer     NOT NULL,
    correlation_id   uuid,
    dead_lettered_at timestamptz NOT NULL,
    resolution       text,
    resolved_at      timestamptz,
    resolved_by      text,
    resolve_reason   text,
    replayed_as      uuid,
    PRIMARY KEY (app_id, dead_letter_id)
);
CREATE INDEX dead_letters_unresolved ON dead_letters (app_id, dead_letter_id) WHERE resolution IS NULL

-- name: save
INSERT INTO dead_letters SELECT * FROM jsonb_populate_recordset(NULL::dead_letters, $1::text::jsonb)
ON CONFLICT (app_id, dead_letter_id) DO NOTHING

-- name: resolve
UPDATE dead_letters d
SET resolution = r.resolution, resolved_at = r.resolved_at, resolved_by = r.resolved_by, resolve_reason = r.resolve_reason, replayed_as = r.replayed_as
FROM jsonb_populate_recordset(NULL::dead_letters, $1::text::jsonb) AS r
WHERE d.app_id = r.app_id AND d.dead_letter_id = r.dead_letter_id

-- name: retain
DELETE FROM dead_letters WHERE app_id = $1 AND dead_lettered_at < $2
