-- name: user
SELECT u.user_id, u.username, u.instance_role, u.version AS user_version,
    (SELECT json_object_agg(m.app_id, json_build_array(m.role, m.version))::text FROM members m WHERE m.user_id = u.user_id) AS memberships
FROM users u
WHERE u.user_id = $1 AND u.active

-- name: key
SELECT k.key_id, k.name AS key_name, k.version AS key_version, k.scopes, k.app_id, u.user_id, u.username, u.instance_role, u.version AS user_version,
    (SELECT json_object_agg(m.app_id, json_build_array(m.role, m.version))::text FROM members m WHERE m.user_id = u.user_id) AS memberships
FROM api_keys k JOIN users u ON u.user_id = k.user_id
WHERE k.key_id = $1 AND u.active AND (k.expires_at IS NULL OR k.expires_at > now())
