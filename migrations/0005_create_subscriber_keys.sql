-- Keys that sign the tokens of live subscribers, per app. One is active; a retired one is good for the tokens that it has signed, a revoked one for nothing.
CREATE TABLE vault_subscriber_keys (
    app_id     uuid        NOT NULL,
    kid        text        COLLATE "C" NOT NULL,
    key        bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (app_id, kid)
);
CREATE UNIQUE INDEX vault_subscriber_keys_active ON vault_subscriber_keys (app_id) WHERE retired_at IS NULL;
