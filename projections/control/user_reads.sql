-- name: user
SELECT user_id, username, email, instance_role, active, credential_id, session_epoch, version, created_at FROM users WHERE user_id = $1

-- name: user_of_name
SELECT user_id, username, email, instance_role, active, credential_id, session_epoch, version, created_at FROM users WHERE username_key = $1

-- name: users
SELECT user_id, username, email, instance_role, active, credential_id, session_epoch, version, created_at
FROM users
WHERE $1::uuid IS NULL OR user_id > $1
ORDER BY user_id
LIMIT $2
