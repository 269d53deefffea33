-- name: app_by_id
SELECT app_id, name, slug FROM apps WHERE app_id = $1

-- name: app_by_slug
-- By the slug that it has; else by one that it had.
SELECT app_id, name, slug FROM apps WHERE slug = $1 OR old_slugs @> ARRAY[$1] ORDER BY slug <> $1 LIMIT 1
