-- name: schema
CREATE TABLE members (
    app_id     uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    role       text        NOT NULL,
    version    bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, user_id)
);
CREATE INDEX members_user ON members (user_id)

-- name: save
INSERT INTO members SELECT * FROM jsonb_populate_recordset(NULL::members, $1::text::jsonb)
ON CONFLICT (app_id, user_id) DO UPDATE SET role = excluded.role, version = excluded.version

-- name: end
DELETE FROM members USING jsonb_populate_recordset(NULL::members, $1::text::jsonb) AS gone
WHERE members.app_id = gone.app_id AND members.user_id = gone.user_id

-- name: end_by_user_id
DELETE FROM members WHERE user_id = ANY ($1::uuid[])

-- name: end_by_app_id
DELETE FROM members WHERE app_id = ANY ($1::uuid[])
