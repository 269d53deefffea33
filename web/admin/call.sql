-- name: app_by_id
SELECT app_id, name, slug FROM apps WHERE app_id = $1

-- name: app_by_slug
SELECT app_id, name, slug FROM apps WHERE slug = $1
