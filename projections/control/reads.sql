-- name: script
SELECT s.app_id, s.script_id, s.name, s.kind, s.source, s.source_version, s.timeout_s, s.limits::text AS limits, s.version, v.created_at, s.updated_at
FROM scripts s JOIN script_versions v ON v.app_id = s.app_id AND v.script_id = s.script_id AND v.source_version = 1
WHERE s.app_id = $1 AND s.script_id = $2

-- name: scripts
SELECT s.app_id, s.script_id, s.name, s.kind, s.source, s.source_version, s.timeout_s, s.limits::text AS limits, s.version, v.created_at, s.updated_at
FROM scripts s JOIN script_versions v ON v.app_id = s.app_id AND v.script_id = s.script_id AND v.source_version = 1
-- Of a deleted app some may still be there.
WHERE ($1::uuid[] IS NULL OR s.app_id = ANY ($1)) AND ($2::uuid IS NULL OR s.script_id > $2) AND EXISTS (SELECT FROM apps a WHERE a.app_id = s.app_id)
ORDER BY s.script_id
LIMIT $3

-- name: all_scripts
SELECT script_id, name, kind, source FROM scripts WHERE app_id = $1 ORDER BY script_id

-- name: versions
SELECT source_version, source, position, created_at
FROM script_versions
WHERE app_id = $1 AND script_id = $2 AND ($3::integer IS NULL OR source_version < $3)
ORDER BY source_version DESC
LIMIT $4

-- name: version
SELECT source_version, source, position, created_at FROM script_versions WHERE app_id = $1 AND script_id = $2 AND source_version = $3

-- name: route
SELECT app_id, route::text AS route, created_at FROM routes WHERE app_id = $1 AND route_id = $2

-- name: app_of_route
-- Of a deleted app some may still be there.
SELECT app_id FROM routes JOIN apps USING (app_id) WHERE route_id = $1

-- name: routes
SELECT app_id, route::text AS route, created_at FROM routes WHERE app_id = $1 ORDER BY route_id

-- name: routes_of_script
SELECT app_id, route::text AS route, created_at
FROM routes
WHERE app_id = $1 AND script_id = $2 AND ($3::uuid IS NULL OR route_id > $3)
ORDER BY route_id
LIMIT $4

-- name: count_scripts
SELECT count(*) AS scripts FROM scripts WHERE app_id = $1

-- name: app
SELECT app_id, name, slug, old_slugs, created_at FROM apps WHERE app_id = $1

-- name: apps
SELECT app_id, name, slug, old_slugs, created_at
FROM apps
WHERE ($1::uuid[] IS NULL OR app_id = ANY ($1)) AND ($2::uuid IS NULL OR app_id > $2)
ORDER BY app_id
LIMIT $3

-- name: deleted_app
SELECT deleted_id, name, slug, deleted_at FROM deleted_apps WHERE deleted_id = $1

-- name: patterns
SELECT pattern FROM domains WHERE app_id = $1

-- name: domain
SELECT domain_id, pattern, created_at FROM domains WHERE app_id = $1 AND domain_id = $2

-- name: domains
SELECT domain_id, pattern, created_at
FROM domains
WHERE app_id = $1 AND ($2::uuid IS NULL OR domain_id > $2)
ORDER BY domain_id
LIMIT $3

-- name: claims
SELECT app_id, domain_id, pattern FROM domains
