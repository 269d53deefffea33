-- name: behind
-- Apps whose log goes on after a projection's checkpoint. A closed log is of a deleted app, of which nothing is kept.
SELECT h.app_id, h.position AS head
FROM log_head h LEFT JOIN projection_checkpoints c ON c.projection = $1 AND c.app_id = h.app_id
WHERE h.position > coalesce(c.position, 0) AND NOT h.closed

-- name: begin
INSERT INTO projection_checkpoints (projection, app_id, position) SELECT $1, app_id, 0 FROM log_head WHERE app_id = ANY ($2::uuid[]) AND NOT closed
ON CONFLICT DO NOTHING

-- name: move
-- From where the reader believes it stands, in logs that are open, by a projection of this version, or not at all: as many rows as there are apps.
UPDATE projection_checkpoints c SET position = m.up_to
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS m (app_id, after, up_to)
WHERE c.projection = $1 AND c.app_id = m.app_id AND c.position = m.after
  AND EXISTS (SELECT FROM log_head h WHERE h.app_id = m.app_id AND NOT h.closed)
  AND EXISTS (SELECT FROM projection_versions v WHERE v.name = $1 AND v.version = $5)
RETURNING 1

-- name: positions
SELECT app_id, position FROM projection_checkpoints WHERE projection = $1

-- name: positions_of
SELECT c.app_id, c.position
FROM projection_checkpoints c JOIN log_head h ON h.app_id = c.app_id
WHERE c.projection = $1 AND c.app_id = ANY ($2::uuid[]) AND NOT h.closed

-- name: forget
DELETE FROM projection_checkpoints WHERE projection = $1

-- name: save
INSERT INTO projection_checkpoints (projection, app_id, position) SELECT $1, d.app_id, d.position
FROM unnest($2::uuid[], $3::bigint[]) AS d (app_id, position) JOIN log_head h ON h.app_id = d.app_id
WHERE NOT h.closed
ON CONFLICT (projection, app_id) DO UPDATE SET position = excluded.position

-- name: lead
-- One process at a time applies a projection, and only one whose code is at the version of its tables.
SELECT CASE WHEN version = $3 THEN pg_try_advisory_lock(422, $2::bigint::bit(32)::integer) ELSE false END AS leads
FROM projection_versions WHERE name = $1

-- name: page
-- The next events of some apps, cut for each app where its states exceed $4 bytes together, but never before its first; `found` is how many there would be.
SELECT app_id, position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at, found
FROM (
    SELECT
        e.*, count(*) OVER (PARTITION BY e.app_id) AS found,
        sum(octet_length(e.state)) OVER (PARTITION BY e.app_id ORDER BY e.position) - octet_length(e.state) AS bytes_before
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS r (app_id, after, up_to)
    JOIN events e ON e.app_id = r.app_id AND e.position > r.after AND e.position <= r.up_to
    WHERE e.topic = ANY ($5::text[])
) p
WHERE bytes_before < $4
ORDER BY app_id, position
