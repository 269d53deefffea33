-- name: schema
CREATE TABLE apps (
    app_id     uuid        PRIMARY KEY,
    name       text        NOT NULL,
    slug       text        COLLATE "C" NOT NULL,
    old_slugs  text[]      COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT apps_slug UNIQUE (slug) DEFERRABLE -- a batch may give a slug that it frees itself
);
CREATE INDEX apps_old_slugs ON apps USING gin (old_slugs);
CREATE TABLE domains (
    app_id     uuid        NOT NULL,
    domain_id  uuid        NOT NULL,
    pattern    text        COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, domain_id)
);
-- Not `app_id`: every row that has one goes when its app is deleted.
CREATE TABLE deleted_apps (
    deleted_id uuid        PRIMARY KEY,
    name       text        NOT NULL,
    slug       text        COLLATE "C" NOT NULL,
    deleted_at timestamptz NOT NULL,
    purged_at  timestamptz
);
CREATE INDEX deleted_apps_unpurged ON deleted_apps (deleted_id) WHERE purged_at IS NULL

-- name: save_apps
INSERT INTO apps SELECT * FROM jsonb_populate_recordset(NULL::apps, $1::text::jsonb)
ON CONFLICT (app_id) DO UPDATE SET name = excluded.name, slug = excluded.slug, old_slugs = excluded.old_slugs

-- name: delete_apps
DELETE FROM apps USING jsonb_populate_recordset(NULL::apps, $1::text::jsonb) AS gone WHERE apps.app_id = gone.app_id

-- name: save_domains
INSERT INTO domains SELECT * FROM jsonb_populate_recordset(NULL::domains, $1::text::jsonb)
ON CONFLICT (app_id, domain_id) DO UPDATE SET pattern = excluded.pattern

-- name: delete_domains
DELETE FROM domains USING jsonb_populate_recordset(NULL::domains, $1::text::jsonb) AS gone
WHERE domains.app_id = gone.app_id AND domains.domain_id = gone.domain_id

-- name: save_deleted
INSERT INTO deleted_apps SELECT * FROM jsonb_populate_recordset(NULL::deleted_apps, $1::text::jsonb)
ON CONFLICT (deleted_id) DO UPDATE SET purged_at = coalesce(deleted_apps.purged_at, excluded.purged_at)

-- name: note_purged
UPDATE deleted_apps d SET purged_at = p.purged_at FROM jsonb_populate_recordset(NULL::deleted_apps, $1::text::jsonb) AS p WHERE d.deleted_id = p.deleted_id
