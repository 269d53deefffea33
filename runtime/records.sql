-- name: insert
INSERT INTO execution_records
SELECT *
FROM jsonb_populate_recordset(
    jsonb_populate_record(NULL::execution_records, jsonb_build_object('recorded_at', clock_timestamp())), $1::text::jsonb
)
ON CONFLICT DO NOTHING

-- name: partitions
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'execution_records'::regclass

-- name: ensure_partition
SELECT picloud_ensure_records_partition($1::date)

-- name: drop_partition
SELECT picloud_drop_records_partition($1::date)
