-- name: upsert_documents
INSERT INTO documents AS d (app_id, collection, id, data, tree, version, created_at, updated_at)
SELECT n.app_id, n.collection, n.id, n.data, jsonb_build_object(n.app_id::text || '/' || n.collection, n.data::jsonb), n.version, n.created_at, n.updated_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
    AS n (app_id, collection, id, data, version, created_at, updated_at)
ON CONFLICT (app_id, collection, id) DO UPDATE
SET data = excluded.data, tree = excluded.tree, version = excluded.version, created_at = excluded.created_at, updated_at = excluded.updated_at

-- name: delete_documents
DELETE FROM documents d
USING unnest($1::uuid[], $2::text[], $3::text[]) AS gone (app_id, collection, id)
WHERE d.app_id = gone.app_id AND d.collection = gone.collection AND d.id = gone.id
