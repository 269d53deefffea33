-- name: positions_of_stream
SELECT position FROM events WHERE app_id = $1 AND originator_id = $2 AND originator_version > $3 ORDER BY originator_version LIMIT $4
