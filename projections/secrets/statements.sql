-- name: schema
CREATE TABLE secrets (
    app_id     uuid        NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    value_id   uuid        NOT NULL,
    version    bigint      NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, name)
)

-- name: save
INSERT INTO secrets SELECT * FROM jsonb_populate_recordset(NULL::secrets, $1::text::jsonb)
ON CONFLICT (app_id, name) DO UPDATE SET value_id = excluded.value_id, version = excluded.version, updated_at = excluded.updated_at

-- name: delete
DELETE FROM secrets USING jsonb_populate_recordset(NULL::secrets, $1::text::jsonb) AS gone
WHERE secrets.app_id = gone.app_id AND secrets.name = gone.name
