-- name: unfinished
SELECT deleted_id FROM deleted_apps WHERE purged_at IS NULL ORDER BY deleted_id

-- name: tables
-- Every table that has rows of apps, whoever owns it: read models, vaults, records (each partition by itself). Only the log itself stays. What blobs are named by
-- comes last.
SELECT c.oid::regclass::text AS name, c.relname = 'file_blobs' AS names_blobs
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND c.relkind = 'r'
  AND a.attname = 'app_id' AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped AND c.relname NOT IN ('events', 'log_head')
ORDER BY names_blobs, name

-- name: delete
SELECT picloud_delete_rows($1::text::regclass, $2, $3) AS gone
