-- name: places
-- Where a channel's events are within a stretch of the log. `left` keeps the planner on the primary key: the streams' own index knows no positions.
-- A compressed state (it does not begin with a brace) may be long once it is read, so it weighs much.
SELECT position, found FROM (
    SELECT position, count(*) OVER () AS found, sum(weight) OVER (ORDER BY position) - weight AS weight_before
    FROM (
        SELECT position, CASE WHEN substring(state FROM 1 FOR 1) = '\x7b'::bytea THEN octet_length(state) ELSE 262144 END AS weight
        FROM events
        WHERE app_id = $1 AND position > $2 AND position <= $3 AND left(originator_id || ':', length($4)) = $4
        ORDER BY position
        LIMIT $5
    ) ahead
) page
WHERE weight_before < $6
ORDER BY position

-- name: head
SELECT position FROM log_head WHERE app_id = $1

-- name: gone
SELECT f.app_id FROM unnest($1::uuid[]) AS f (app_id) WHERE NOT EXISTS (SELECT FROM apps a WHERE a.app_id = f.app_id)
