-- name: active_user
SELECT username, instance_role FROM users WHERE user_id = $1 AND active
