-- name: page
-- Those that are valid, newest first.
SELECT s.session_id, s.created_at, s.seen_at, s.expires_at, s.address, s.user_agent
FROM vault_sessions s JOIN users u ON u.user_id = s.user_id AND u.session_epoch = s.epoch
WHERE s.user_id = $1 AND s.expires_at > now() AND u.active AND ($2::uuid IS NULL OR s.session_id < $2)
ORDER BY s.session_id DESC
LIMIT $3

-- name: revoke
DELETE FROM vault_sessions s USING users u
WHERE s.user_id = $1 AND s.session_id = $2 AND s.expires_at > now() AND u.user_id = s.user_id AND u.session_epoch = s.epoch
RETURNING s.session_id

-- name: revoke_others
DELETE FROM vault_sessions s USING users u
WHERE s.user_id = $1 AND s.session_id IS DISTINCT FROM $2 AND s.expires_at > now() AND u.user_id = s.user_id AND u.session_epoch = s.epoch
RETURNING s.session_id

-- name: keep
UPDATE vault_sessions SET epoch = $3 WHERE session_id = $1 AND epoch = $2
