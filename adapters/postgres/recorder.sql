-- name: select_events
SELECT originator_version, topic, state
FROM events
WHERE app_id = $1 AND originator_id = $2 AND originator_version > $3 AND originator_version <= $4
ORDER BY originator_version
LIMIT $5

-- name: select_events_descending
SELECT originator_version, topic, state
FROM events
WHERE app_id = $1 AND originator_id = $2 AND originator_version > $3 AND originator_version <= $4
ORDER BY originator_version DESC
LIMIT $5

-- name: select_notifications
SELECT position, originator_id, originator_version, topic, state
FROM events
WHERE app_id = $1 AND position > $2 AND position <= $3 AND ($4::text[] IS NULL OR topic = ANY ($4))
ORDER BY position
LIMIT $5
