-- name: schema
CREATE TABLE files (
    app_id       uuid        NOT NULL,
    collection   text        COLLATE "C" NOT NULL,
    id           uuid        NOT NULL,
    name         text        COLLATE "C" NOT NULL,
    content_type text        NOT NULL,
    size         bigint      NOT NULL,
    checksum     text        COLLATE "C" NOT NULL,
    version      bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (app_id, collection, id)
);
CREATE TABLE file_blobs (
    app_id   uuid   NOT NULL,
    checksum text   COLLATE "C" NOT NULL,
    size     bigint NOT NULL,
    PRIMARY KEY (app_id, checksum)
);
CREATE INDEX file_blobs_checksum ON file_blobs (checksum)

-- name: save_files
INSERT INTO files SELECT * FROM jsonb_populate_recordset(NULL::files, $1::text::jsonb)
ON CONFLICT (app_id, collection, id) DO UPDATE
SET name = excluded.name, content_type = excluded.content_type, size = excluded.size, checksum = excluded.checksum,
    version = excluded.version, updated_at = excluded.updated_at

-- name: delete_files
DELETE FROM files USING jsonb_populate_recordset(NULL::files, $1::text::jsonb) AS gone
WHERE files.app_id = gone.app_id AND files.collection = gone.collection AND files.id = gone.id

-- name: name_blobs
INSERT INTO file_blobs SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])
ON CONFLICT (app_id, checksum) DO NOTHING
