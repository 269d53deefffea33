-- name: together
-- In one statement, so that all of it is true at one moment.
SELECT u.user_id, u.username, u.email, u.instance_role, u.active, u.credential_id, u.session_epoch, u.version,
    (SELECT count(*) FROM users o WHERE o.active AND o.instance_role = 'owner' AND o.user_id IS DISTINCT FROM $2) AS other_owners,
    coalesce((SELECT max(originator_version) FROM events WHERE app_id = $3 AND originator_id = $4), 0) AS guard
FROM (VALUES (1)) AS always LEFT JOIN users u ON u.user_id = ANY (ARRAY[$1, $2]::uuid[])
