-- name: topic
SELECT kind, name, external_subscribable, auth_mode, version, created_at FROM topics WHERE app_id = $1 AND kind = $2 AND name = $3

-- name: named
SELECT kind, name, external_subscribable, auth_mode, version, created_at FROM topics
WHERE app_id = $1 AND (kind, name) IN (SELECT * FROM unnest($2::text[], $3::text[]))

-- name: page
SELECT kind, name, external_subscribable, auth_mode, version, created_at FROM topics
WHERE app_id = $1 AND ($2::text IS NULL OR (kind, name) > ($2, $3))
ORDER BY kind, name
LIMIT $4
