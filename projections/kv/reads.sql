-- name: entry
SELECT key, value, version, expires_at, updated_at
FROM kv_entries
WHERE app_id = $1 AND collection = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $4)

-- name: entries
-- As `page` of live.sql: the bytes are bounded before values are read, and the first entry comes in any case.
SELECT key, value, version, expires_at, updated_at, found
FROM (
    SELECT *, sum(octet_length(value)) OVER (ORDER BY key) - octet_length(value) AS bytes_before, count(*) OVER () AS found
    FROM (
        SELECT key, value, version, expires_at, updated_at
        FROM kv_entries
        WHERE app_id = $1 AND collection = $2 AND key >= $3 AND starts_with(key, $3) AND ($4::text IS NULL OR key > $4)
          AND (expires_at IS NULL OR expires_at > $5)
        ORDER BY key
        LIMIT $6
    ) entries
) page
WHERE bytes_before < $7
ORDER BY key

-- name: collections
-- One step down the index for each collection, however many entries it has.
WITH RECURSIVE names AS (
    (
        SELECT collection, 1 AS number FROM kv_entries WHERE app_id = $1 AND ($2::text IS NULL OR collection > $2) ORDER BY collection LIMIT 1
    )
    UNION ALL
    SELECT
        (SELECT k.collection FROM kv_entries k WHERE k.app_id = $1 AND k.collection > names.collection ORDER BY k.collection LIMIT 1),
        number + 1
    FROM names
    WHERE names.collection IS NOT NULL AND number < $4
)
SELECT n.collection, (
    SELECT count(*) FROM kv_entries k WHERE k.app_id = $1 AND k.collection = n.collection AND (k.expires_at IS NULL OR k.expires_at > $3)
) AS entries
FROM names n
WHERE n.collection IS NOT NULL
ORDER BY n.collection
