-- name: stored
SELECT
    (SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM kv_entries WHERE app_id = $1)::bigint AS kv,
    (SELECT coalesce(sum(octet_length(id) + octet_length(data)), 0) FROM documents WHERE app_id = $1)::bigint AS docs,
    (SELECT coalesce(sum(size), 0) FROM files WHERE app_id = $1)::bigint AS files
