-- name: hosts
SELECT a.app_id, a.slug, a.old_slugs, d.pattern FROM apps a LEFT JOIN domains d ON d.app_id = a.app_id

-- name: scripts
SELECT script_id, name, kind, source, source_version, timeout_s, limits::text AS limits FROM scripts WHERE app_id = $1

-- name: routes
SELECT route::text AS route FROM routes WHERE app_id = $1

-- name: app_of_script
-- Of a deleted app some may still be there.
SELECT app_id FROM scripts JOIN apps USING (app_id) WHERE script_id = $1
