-- name: heads
SELECT app_id, position FROM log_head

-- name: page
-- The events of some ranges of positions, cut where their states exceed $5 bytes together; `found` is how many there would be without the cut.
SELECT app_id, position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at, found
FROM (
    SELECT e.*, count(*) OVER () AS found, sum(octet_length(e.state)) OVER (ORDER BY e.app_id, e.position) - octet_length(e.state) AS bytes_before
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS r (app_id, after, up_to)
    JOIN events e ON e.app_id = r.app_id AND e.position > r.after AND e.position <= r.up_to
    WHERE $4::text[] IS NULL OR e.topic = ANY ($4)
) p
WHERE bytes_before < $5
ORDER BY app_id, position

-- name: versions
SELECT name, version FROM projection_versions

-- name: save_version
INSERT INTO projection_versions (name, version) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, rebuilt_at = now()

-- name: tables
-- The tables of a projection that stand in a schema, whatever version made them.
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND obj_description(c.oid, 'pg_class') = $2
ORDER BY c.relname

-- name: key_columns
SELECT a.attname FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1::text::regclass AND i.indisprimary
ORDER BY k.place

-- name: columns
SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
