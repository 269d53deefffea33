-- name: tables
-- The tables that have a view, or are to have one: those of projections that have an app_id, and the log. `shown` are the view's columns, NULL without one;
-- `granted` is false when the role is there and may not read it.
SELECT
    t.relname AS name, v.oid IS NOT NULL AS has_view,
    (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped)
        IS NOT DISTINCT FROM (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = v.oid AND attnum > 0) AS is_whole,
    r.oid IS NULL OR (v.oid IS NOT NULL AND has_schema_privilege(r.oid, v.relnamespace, 'USAGE') AND has_table_privilege(r.oid, v.oid, 'SELECT')) AS is_granted
FROM pg_class t
JOIN pg_attribute k ON k.attrelid = t.oid AND k.attname = 'app_id' AND NOT k.attisdropped
LEFT JOIN pg_class v ON v.relname = t.relname AND v.relkind = 'v' AND v.relnamespace = to_regnamespace('picloud_scripts')
LEFT JOIN pg_roles r ON r.rolname = 'picloud_scripts'
WHERE t.relnamespace = $1::text::regnamespace AND t.relkind = 'r'
  AND (t.relname = 'events' OR obj_description(t.oid, 'pg_class') LIKE 'projection %')
ORDER BY t.relname

-- name: role
-- Whether the role is there, and whether we may become it.
SELECT r.oid IS NOT NULL AS is_there, coalesce(pg_has_role(current_user, r.oid, $1), false) AS may_become
FROM (SELECT 1) AS one LEFT JOIN pg_roles r ON r.rolname = 'picloud_scripts'

-- name: create_role
CREATE ROLE picloud_scripts NOLOGIN

-- name: join_role_15
GRANT picloud_scripts TO CURRENT_USER

-- name: join_role
GRANT picloud_scripts TO CURRENT_USER WITH INHERIT FALSE, SET TRUE

-- name: enter
SELECT set_config('search_path', 'picloud_scripts', false), set_config('default_transaction_read_only', 'on', false), set_config('role', $1, false)
