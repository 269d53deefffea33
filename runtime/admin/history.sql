-- name: recorded_at
SELECT recorded_at FROM events WHERE app_id = $1 AND position = $2

-- name: stream_at
SELECT position FROM events WHERE app_id = $1 AND originator_id = $2 AND position <= $3 ORDER BY originator_version DESC LIMIT 1

-- name: items_at
-- The last event of each stream from $2 to before $3, up to a position: of those after which something is there, by key (what follows $5 characters of the stream's name, decoded).
SELECT position, key, CASE WHEN substring(state FROM 1 FOR 1) = '\x7b'::bytea THEN octet_length(state) ELSE 262144 END AS weight
FROM (
    SELECT DISTINCT ON (originator_id)
        position, topic, state, replace(replace(substr(originator_id, $5 + 1), '%3A', ':'), '%25', '%') COLLATE "C" AS key
    FROM events
    WHERE app_id = $1 AND originator_id >= $2 AND originator_id < $3 AND position <= $4
    ORDER BY originator_id, originator_version DESC
) last
WHERE topic = ANY ($6::text[]) AND ($7::text IS NULL OR key > $7)
ORDER BY key
LIMIT $8

-- name: next_collection
SELECT split_part(originator_id, ':', 2) AS collection
FROM events
WHERE app_id = $1 AND originator_id >= $2 AND originator_id < $4 AND position <= $3
ORDER BY originator_id
LIMIT 1

-- name: streams_at
-- The last event of each stream. A kv entry's expiry stands last in a state that is plain JSON (`tail`); a compressed one has none to show here.
SELECT
    position, topic, originator_id,
    CASE WHEN substring(state FROM 1 FOR 1) = '\x7b'::bytea THEN substring(state FROM greatest(octet_length(state) - 63, 1)) END AS tail
FROM (
    SELECT DISTINCT ON (originator_id) position, topic, originator_id, state
    FROM events
    WHERE app_id = $1 AND originator_id > $2 AND originator_id < $3 AND position <= $4
    ORDER BY originator_id, originator_version DESC
    LIMIT $5
) last
ORDER BY originator_id

-- name: states
SELECT position, state FROM events WHERE app_id = $1 AND position = ANY ($2::bigint[])
