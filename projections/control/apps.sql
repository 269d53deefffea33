-- name: schema
CREATE TABLE apps (
    app_id     uuid        PRIMARY KEY,
    name       text        NOT NULL,
    slug       text        COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT apps_slug UNIQUE (slug) DEFERRABLE -- a batch may give a slug that it frees itself
);
CREATE TABLE domains (
    app_id     uuid        NOT NULL,
    domain_id  uuid        NOT NULL,
    pattern    text        COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, domain_id)
)

-- name: save_apps
INSERT INTO apps SELECT * FROM jsonb_populate_recordset(NULL::apps, $1::text::jsonb)
ON CONFLICT (app_id) DO UPDATE SET name = excluded.name, slug = excluded.slug

-- name: delete_apps
DELETE FROM apps USING jsonb_populate_recordset(NULL::apps, $1::text::jsonb) AS gone WHERE apps.app_id = gone.app_id

-- name: save_domains
INSERT INTO domains SELECT * FROM jsonb_populate_recordset(NULL::domains, $1::text::jsonb)
ON CONFLICT (app_id, domain_id) DO UPDATE SET pattern = excluded.pattern

-- name: delete_domains
DELETE FROM domains USING jsonb_populate_recordset(NULL::domains, $1::text::jsonb) AS gone
WHERE domains.app_id = gone.app_id AND domains.domain_id = gone.domain_id
