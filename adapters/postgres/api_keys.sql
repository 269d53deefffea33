-- name: find
-- The hash is asked for, too, so that a known prefix with a wrong secret joins no more than an unknown one. Nobody can aim at a keyed hash, byte by byte.
SELECT v.hash, v.last_used_at IS NULL OR v.last_used_at < now() - make_interval(secs => $2) AS unseen,
    k.key_id, k.name AS key_name, k.version AS key_version, k.scopes, k.app_id, k.expires_at,
    u.user_id, u.username, u.email, u.instance_role, u.version AS user_version,
    (SELECT json_object_agg(m.app_id, json_build_array(m.role, m.version))::text FROM members m WHERE m.user_id = u.user_id) AS memberships
FROM vault_api_keys v JOIN api_keys k ON k.key_id = v.key_id JOIN users u ON u.user_id = k.user_id
WHERE v.prefix = $1 AND v.hash = $3 AND u.active AND (k.expires_at IS NULL OR k.expires_at > now())

-- name: put
INSERT INTO vault_api_keys (key_id, prefix, hash) VALUES ($1, $2, $3) ON CONFLICT (prefix) DO NOTHING RETURNING key_id

-- name: drop
DELETE FROM vault_api_keys WHERE key_id = $1

-- name: note_uses
-- What another process is noting need not be noted twice, nor waited for: two that wait for each other's rows would end in a deadlock.
UPDATE vault_api_keys SET last_used_at = now()
WHERE key_id IN (SELECT key_id FROM vault_api_keys WHERE key_id = ANY ($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED)

-- name: page
SELECT k.key_id AS id, k.name, k.prefix, k.scopes, k.app_id, k.expires_at, k.created_at, v.last_used_at
FROM api_keys k LEFT JOIN vault_api_keys v ON v.key_id = k.key_id
WHERE k.user_id = $1 AND ($2::uuid IS NULL OR k.key_id > $2)
ORDER BY k.key_id
LIMIT $3

-- name: owner_of
SELECT user_id FROM api_keys WHERE key_id = $1

-- name: room
SELECT count(*) FILTER (WHERE expires_at IS NULL OR expires_at > now()) AS live, coalesce($2::timestamptz <= now(), false) AS is_past
FROM api_keys
WHERE user_id = $1

-- name: sweep
-- Hashes of keys that have ended: with their owner or app, or by a process that died before it had dropped them.
DELETE FROM vault_api_keys v
WHERE v.created_at < now() - make_interval(secs => $1) AND NOT EXISTS (SELECT FROM api_keys k WHERE k.key_id = v.key_id)
