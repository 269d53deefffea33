-- name: settings
SELECT settings::text AS settings, version, updated_at FROM settings WHERE app_id = $1
