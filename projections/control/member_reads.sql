-- name: page
SELECT m.user_id, u.username, u.email, u.active, m.role, m.created_at
FROM members m JOIN users u ON u.user_id = m.user_id
WHERE m.app_id = $1 AND ($2::uuid IS NULL OR m.user_id > $2)
ORDER BY m.user_id
LIMIT $3

-- name: one
SELECT m.user_id, u.username, u.email, u.active, m.role, m.created_at
FROM members m JOIN users u ON u.user_id = m.user_id
WHERE m.app_id = $1 AND m.user_id = $2
