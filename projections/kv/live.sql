-- name: get
SELECT value, version, updated_at FROM kv_entries
WHERE app_id = $1 AND collection = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $4)

-- name: page
-- The length of a long value is known without reading it, so a page's bytes are bounded before they are read; its first entry comes in any case.
SELECT key, value, version, updated_at FROM (
    SELECT key, value, version, updated_at, sum(octet_length(value)) OVER (ORDER BY key) - octet_length(value) AS bytes_before
    FROM (
        SELECT key, value, version, updated_at FROM kv_entries
        WHERE app_id = $1 AND collection = $2 AND key >= $3 AND starts_with(key, $3) AND ($4::text IS NULL OR key > $4)
          AND (expires_at IS NULL OR expires_at > $5)
        ORDER BY key
        LIMIT $6
    ) entries
) page
WHERE bytes_before < $7
ORDER BY key

-- name: due
-- A closed log takes no more events, so what has expired there stays as it is.
SELECT k.app_id, k.collection, k.key FROM kv_entries k JOIN log_head h ON h.app_id = k.app_id
WHERE k.expires_at <= $1 AND NOT h.closed
ORDER BY k.expires_at
LIMIT $2
