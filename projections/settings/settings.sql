-- name: schema
CREATE TABLE settings (
    app_id     uuid        PRIMARY KEY,
    settings   jsonb       NOT NULL,
    version    bigint      NOT NULL,
    updated_at timestamptz NOT NULL
)

-- name: save
INSERT INTO settings SELECT * FROM jsonb_populate_recordset(NULL::settings, $1::text::jsonb)
ON CONFLICT (app_id) DO UPDATE SET settings = excluded.settings, version = excluded.version, updated_at = excluded.updated_at
