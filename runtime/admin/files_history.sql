-- name: file_at
-- Its last event up to a position, and when its first was recorded: ids are used once.
SELECT position, (
    SELECT recorded_at FROM events WHERE app_id = $1 AND originator_id = $2 AND originator_version = 1
) AS created_at
FROM events
WHERE app_id = $1 AND originator_id = $2 AND position <= $3
ORDER BY originator_version DESC
LIMIT 1

-- name: files_at
-- The last event of each stream from after $2 to before $3, up to a position: of those that were not deleted then.
SELECT last.position, first.recorded_at AS created_at
FROM (
    SELECT DISTINCT ON (originator_id) originator_id, position, topic
    FROM events
    WHERE app_id = $1 AND originator_id > $2 AND originator_id < $3 AND position <= $4
    ORDER BY originator_id, originator_version DESC
) last
JOIN events first ON first.app_id = $1 AND first.originator_id = last.originator_id AND first.originator_version = 1
WHERE last.topic <> $5
ORDER BY last.originator_id
LIMIT $6

-- name: next_collection
SELECT split_part(originator_id, ':', 2) AS collection
FROM events
WHERE app_id = $1 AND originator_id >= $2 AND originator_id < 'files;' AND position <= $3
ORDER BY originator_id
LIMIT 1

-- name: count_at
SELECT count(*) AS files
FROM (
    SELECT DISTINCT ON (originator_id) topic
    FROM events
    WHERE app_id = $1 AND originator_id >= $2 AND originator_id < $3 AND position <= $4
    ORDER BY originator_id, originator_version DESC
) last
WHERE topic <> $5
