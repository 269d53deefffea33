-- Values of secrets, encrypted: never in the log, not a projection, left alone by rebuild. The read model `secrets` says which of them count.
CREATE TABLE vault_secrets (
    app_id     uuid        NOT NULL,
    value_id   uuid        NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    key_id     text        COLLATE "C" NOT NULL,
    nonce      bytea       NOT NULL,
    cipher     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, value_id)
);
CREATE INDEX vault_secrets_key ON vault_secrets (key_id);
