-- name: schema
CREATE TABLE topics (
    app_id                uuid        NOT NULL,
    kind                  text        COLLATE "C" NOT NULL,
    name                  text        COLLATE "C" NOT NULL,
    external_subscribable boolean     NOT NULL,
    auth_mode             text        NOT NULL,
    version               bigint      NOT NULL,
    created_at            timestamptz NOT NULL,
    PRIMARY KEY (app_id, kind, name)
)

-- name: save_topics
INSERT INTO topics SELECT * FROM jsonb_populate_recordset(NULL::topics, $1::text::jsonb)
ON CONFLICT (app_id, kind, name) DO UPDATE
SET external_subscribable = excluded.external_subscribable, auth_mode = excluded.auth_mode, version = excluded.version

-- name: delete_topics
DELETE FROM topics t USING jsonb_populate_recordset(NULL::topics, $1::text::jsonb) AS gone
WHERE t.app_id = gone.app_id AND t.kind = gone.kind AND t.name = gone.name
