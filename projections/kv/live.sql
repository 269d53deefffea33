-- name: get
SELECT value, version, updated_at FROM kv_entries
WHERE app_id = $1 AND collection = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $4)

-- name: page
SELECT key, value, version, updated_at, expires_at FROM kv_entries
WHERE app_id = $1 AND collection = $2 AND key >= $3 AND starts_with(key, $3) AND ($4::text IS NULL OR key > $4) AND (expires_at IS NULL OR expires_at > $5)
ORDER BY key
LIMIT $6

-- name: due
SELECT app_id, collection, key FROM kv_entries WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
