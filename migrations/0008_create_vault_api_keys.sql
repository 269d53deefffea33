-- Hashes of API keys' tokens: never in the log, not a projection, left alone by rebuild. The read model `api_keys` says which of them open anything.
CREATE TABLE vault_api_keys (
    key_id       uuid        PRIMARY KEY,
    prefix       text        COLLATE "C" NOT NULL UNIQUE,
    hash         bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz
);
