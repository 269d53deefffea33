-- Credentials: never in the log, not a projection, left alone by rebuild.
CREATE TABLE vault_passwords (
    user_id    uuid        PRIMARY KEY,
    hash       text        NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE vault_sessions (
    token_hash bytea       PRIMARY KEY,
    session_id uuid        NOT NULL UNIQUE,
    user_id    uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    address    text        NOT NULL,
    user_agent text        NOT NULL
);
CREATE INDEX vault_sessions_user ON vault_sessions (user_id);
CREATE INDEX vault_sessions_expiry ON vault_sessions (expires_at);

-- The instance's own keys (e.g. the one that signs poll tokens).
CREATE TABLE vault_keys (
    name       text        PRIMARY KEY,
    key        bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Failed logins, for throttling across processes.
CREATE TABLE login_failures (
    username  text        COLLATE "C" NOT NULL,
    address   text        NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_failures_recent ON login_failures (username, address, failed_at);
