-- name: heads
SELECT s.stream, e.originator_version AS version, e.topic, e.position
FROM unnest($2::text[]) AS s (stream)
JOIN LATERAL (
    SELECT originator_version, topic, position FROM events WHERE app_id = $1 AND originator_id = s.stream ORDER BY originator_version DESC LIMIT 1
) e ON true

-- name: unit_of_key
SELECT first_position AS position FROM unit_keys WHERE app_id = $1 AND key = $2
