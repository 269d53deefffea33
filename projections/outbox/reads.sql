-- name: trigger
SELECT app_id, trigger::text AS trigger, created_at FROM triggers WHERE app_id = $1 AND trigger_id = $2

-- name: triggers
SELECT app_id, trigger::text AS trigger, created_at
FROM triggers
WHERE app_id = $1 AND ($2::uuid IS NULL OR trigger_id > $2)
ORDER BY trigger_id
LIMIT $3

-- name: triggers_of_script
SELECT app_id, trigger::text AS trigger, created_at FROM triggers WHERE app_id = $1 AND script_id = $2 ORDER BY trigger_id LIMIT $3
