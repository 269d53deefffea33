-- name: positions_of_stream
-- What is not plain JSON is compressed, and its length says little: 16 of those weigh as much as a page.
SELECT position, CASE WHEN substring(state FROM 1 FOR 1) = '\x7b'::bytea THEN octet_length(state) ELSE 262144 END AS weight
FROM events
WHERE app_id = $1 AND originator_id = $2 AND originator_version > $3
ORDER BY originator_version
LIMIT $4

-- name: weighed
SELECT position, CASE WHEN substring(state FROM 1 FOR 1) = '\x7b'::bytea THEN octet_length(state) ELSE 262144 END AS weight
FROM ({found}) found
ORDER BY position
