-- name: instance
SELECT metadata ->> 'unit_id' AS unit_id FROM events WHERE app_id = $1 AND position = 1
