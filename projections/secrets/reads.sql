-- name: page
SELECT name, version, updated_at FROM secrets WHERE app_id = $1 AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3

-- name: count
SELECT count(*) AS secrets FROM secrets WHERE app_id = $1 AND name <> $2
