-- name: insert
-- Of deleted apps nothing is kept. What JSON does not name comes from the base row.
INSERT INTO execution_records
SELECT r.*
FROM jsonb_populate_recordset(
    jsonb_populate_record(NULL::execution_records, jsonb_build_object('recorded_at', clock_timestamp())), $1::text::jsonb
) AS r
WHERE NOT EXISTS (SELECT FROM log_head h WHERE h.app_id = r.app_id AND h.closed)
ON CONFLICT DO NOTHING

-- name: partitions
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'execution_records'::regclass

-- name: ensure_partition
SELECT picloud_ensure_records_partition($1::date)

-- name: drop_partition
SELECT picloud_drop_records_partition($1::date)
