-- name: slug
-- In one statement, so that all of it was so at one moment: where the streams of a slug and its host stand, and whose it is or was.
SELECT coalesce(name.version, 0) AS name_version, name.topic AS name_topic, coalesce(host.version, 0) AS host_version, host.topic AS host_topic, owner.app_id
FROM (VALUES (1)) AS one (row)
LEFT JOIN LATERAL (
    SELECT originator_version AS version, topic FROM events WHERE app_id = $1 AND originator_id = $2 ORDER BY originator_version DESC LIMIT 1
) AS name ON true
LEFT JOIN LATERAL (
    SELECT originator_version AS version, topic FROM events WHERE app_id = $1 AND originator_id = $3 ORDER BY originator_version DESC LIMIT 1
) AS host ON true
LEFT JOIN LATERAL (SELECT app_id FROM apps WHERE slug = $4 OR old_slugs @> ARRAY[$4] ORDER BY slug <> $4 LIMIT 1) AS owner ON true
