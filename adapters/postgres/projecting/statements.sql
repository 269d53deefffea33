-- name: heads
SELECT app_id, position, closed FROM log_head

-- name: dropping_logs
-- Closed, but not all rows of them are deleted yet.
SELECT app_id FROM log_head WHERE closed AND NOT dropped

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

-- name: running
-- Processes that have this database's log open.
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1

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

-- name: heads_astray
-- Logs whose head does not stand at their last event. The recursion steps from app to app by the index, so that events without a head are found too.
WITH RECURSIVE appended AS (
    (SELECT app_id FROM events ORDER BY app_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.app_id FROM events e WHERE e.app_id > a.app_id ORDER BY e.app_id LIMIT 1) FROM appended a WHERE a.app_id IS NOT NULL
),
apps AS (SELECT app_id FROM appended WHERE app_id IS NOT NULL UNION SELECT app_id FROM log_head)
SELECT app_id, h.position AS head, h.last_recorded_at, coalesce(last.position, 0) AS position, last.recorded_at
FROM apps
LEFT JOIN log_head h USING (app_id)
LEFT JOIN LATERAL (SELECT e.position, e.recorded_at FROM events e WHERE e.app_id = apps.app_id ORDER BY e.position DESC LIMIT 1) AS last ON true
WHERE h.position IS DISTINCT FROM coalesce(last.position, 0) OR h.last_recorded_at < last.recorded_at
ORDER BY app_id
LIMIT $1

-- name: streams_astray
-- Events whose version does not follow on the one before it in their stream, or stands before it in the log.
SELECT position, originator_id, originator_version, version_before, position_before
FROM (
    SELECT position, originator_id, originator_version,
        lag(originator_version, 1, 0::bigint) OVER stream AS version_before, lag(position, 1, 0::bigint) OVER stream AS position_before
    FROM events
    WHERE app_id = $1
    WINDOW stream AS (PARTITION BY originator_id ORDER BY originator_version)
) e
WHERE originator_version <> version_before + 1 OR position <= position_before
ORDER BY position
LIMIT $2
