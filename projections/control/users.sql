-- name: schema
CREATE TABLE users (
    user_id       uuid        PRIMARY KEY,
    username      text        COLLATE "C" NOT NULL,
    username_key  text        COLLATE "C" NOT NULL,
    email         text,
    instance_role text        NOT NULL,
    active        boolean     NOT NULL,
    credential_id uuid        NOT NULL,
    session_epoch bigint      NOT NULL,
    version       bigint      NOT NULL,
    created_at    timestamptz NOT NULL,
    CONSTRAINT users_username UNIQUE (username_key) DEFERRABLE -- a batch may give a name that it frees itself
)

-- name: save_users
INSERT INTO users SELECT * FROM jsonb_populate_recordset(NULL::users, $1::text::jsonb)
ON CONFLICT (user_id) DO UPDATE
SET username = excluded.username, username_key = excluded.username_key, email = excluded.email,
    instance_role = excluded.instance_role, active = excluded.active, credential_id = excluded.credential_id,
    session_epoch = excluded.session_epoch, version = excluded.version

-- name: delete_users
DELETE FROM users USING jsonb_populate_recordset(NULL::users, $1::text::jsonb) AS gone WHERE users.user_id = gone.user_id
