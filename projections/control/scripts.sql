-- name: schema
CREATE TABLE scripts (
    app_id         uuid        NOT NULL,
    script_id      uuid        NOT NULL,
    name           text        COLLATE "C" NOT NULL,
    kind           text        NOT NULL,
    source         text        NOT NULL,
    source_version integer     NOT NULL,
    timeout_s      double precision NOT NULL,
    limits         jsonb       NOT NULL,
    version        bigint      NOT NULL,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (app_id, script_id)
);
CREATE UNIQUE INDEX scripts_id ON scripts (script_id);
CREATE INDEX scripts_name ON scripts (app_id, name);
CREATE TABLE script_versions (
    app_id         uuid        NOT NULL,
    script_id      uuid        NOT NULL,
    source_version integer     NOT NULL,
    source         text        NOT NULL,
    position       bigint      NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (app_id, script_id, source_version)
)

-- name: save_scripts
INSERT INTO scripts SELECT * FROM jsonb_populate_recordset(NULL::scripts, $1::text::jsonb)
ON CONFLICT (app_id, script_id) DO UPDATE
SET name = excluded.name, kind = excluded.kind, source = excluded.source, source_version = excluded.source_version,
    timeout_s = excluded.timeout_s, limits = excluded.limits, version = excluded.version, updated_at = excluded.updated_at

-- name: save_versions
INSERT INTO script_versions SELECT * FROM jsonb_populate_recordset(NULL::script_versions, $1::text::jsonb)
ON CONFLICT (app_id, script_id, source_version) DO NOTHING

-- name: delete_scripts
DELETE FROM scripts USING jsonb_populate_recordset(NULL::scripts, $1::text::jsonb) AS gone
WHERE scripts.app_id = gone.app_id AND scripts.script_id = gone.script_id
