CREATE TABLE kv_entries (
    app_id     uuid        NOT NULL,
    collection text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C" NOT NULL,
    value      text        NOT NULL,
    version    bigint      NOT NULL,
    expires_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, collection, key)
);
CREATE INDEX kv_entries_expiry ON kv_entries (expires_at) WHERE expires_at IS NOT NULL;
