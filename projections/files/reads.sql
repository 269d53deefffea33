-- name: file
SELECT id, name, content_type, size, checksum, version, created_at, updated_at FROM files WHERE app_id = $1 AND collection = $2 AND id = $3

-- name: page
SELECT id, name, content_type, size, checksum, version, created_at, updated_at FROM files
WHERE app_id = $1 AND collection = $2 AND ($3::uuid IS NULL OR id > $3)
ORDER BY id
LIMIT $4

-- name: collections
-- One step down the index for each collection, however many files it has.
WITH RECURSIVE names AS (
    (
        SELECT collection, 1 AS number FROM files WHERE app_id = $1 AND ($2::text IS NULL OR collection > $2) ORDER BY collection LIMIT 1
    )
    UNION ALL
    SELECT
        (SELECT f.collection FROM files f WHERE f.app_id = $1 AND f.collection > names.collection ORDER BY f.collection LIMIT 1),
        number + 1
    FROM names
    WHERE names.collection IS NOT NULL AND number < $3
)
SELECT n.collection, (SELECT count(*) FROM files f WHERE f.app_id = $1 AND f.collection = n.collection) AS files
FROM names n
WHERE n.collection IS NOT NULL
ORDER BY n.collection

-- name: named
SELECT DISTINCT checksum FROM file_blobs WHERE checksum = ANY ($1::text[])

-- name: any_named
SELECT EXISTS (SELECT FROM file_blobs) AS any_named
