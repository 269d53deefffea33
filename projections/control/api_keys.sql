-- name: schema
CREATE TABLE api_keys (
    key_id     uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL,
    name       text        NOT NULL,
    prefix     text        COLLATE "C" NOT NULL,
    scopes     text[]      NOT NULL,
    app_id     uuid,
    expires_at timestamptz,
    version    bigint      NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX api_keys_user ON api_keys (user_id, key_id);
CREATE INDEX api_keys_app ON api_keys (app_id)

-- name: save
INSERT INTO api_keys SELECT * FROM jsonb_populate_recordset(NULL::api_keys, $1::text::jsonb)
ON CONFLICT (key_id) DO UPDATE
SET name = excluded.name, prefix = excluded.prefix, scopes = excluded.scopes, app_id = excluded.app_id, expires_at = excluded.expires_at,
    version = excluded.version

-- name: end
DELETE FROM api_keys USING jsonb_populate_recordset(NULL::api_keys, $1::text::jsonb) AS gone WHERE api_keys.key_id = gone.key_id

-- name: end_by_user_id
DELETE FROM api_keys WHERE user_id = ANY ($1::uuid[])

-- name: end_by_app_id
DELETE FROM api_keys WHERE app_id = ANY ($1::uuid[])
