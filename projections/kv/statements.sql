-- name: upsert_entries
INSERT INTO kv_entries AS k (app_id, collection, key, value, version, expires_at, updated_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
ON CONFLICT (app_id, collection, key) DO UPDATE
SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at, updated_at = excluded.updated_at

-- name: delete_entries
DELETE FROM kv_entries k
USING unnest($1::uuid[], $2::text[], $3::text[]) AS gone (app_id, collection, key)
WHERE k.app_id = gone.app_id AND k.collection = gone.collection AND k.key = gone.key
