-- name: put
INSERT INTO vault_secrets (app_id, value_id, name, key_id, nonce, cipher) VALUES ($1, $2, $3, $4, $5, $6)

-- name: read
SELECT v.value_id, v.key_id, v.nonce, v.cipher
FROM secrets s JOIN vault_secrets v ON v.app_id = s.app_id AND v.value_id = s.value_id
WHERE s.app_id = $1 AND s.name = $2

-- name: drop
DELETE FROM vault_secrets WHERE app_id = $1 AND value_id = $2

-- name: keys
SELECT v.key_id, count(*) AS secrets
FROM vault_secrets v JOIN secrets s ON s.app_id = v.app_id AND s.value_id = v.value_id JOIN log_head h ON h.app_id = v.app_id
WHERE NOT h.closed
GROUP BY v.key_id
ORDER BY v.key_id

-- name: of_other_keys
SELECT v.app_id, v.value_id, v.name, v.key_id, v.nonce, v.cipher
FROM vault_secrets v JOIN secrets s ON s.app_id = v.app_id AND s.value_id = v.value_id JOIN log_head h ON h.app_id = v.app_id
WHERE v.key_id <> $1 AND NOT h.closed
ORDER BY v.app_id, v.value_id

-- name: replace
UPDATE vault_secrets SET key_id = $4, nonce = $5, cipher = $6 WHERE app_id = $1 AND value_id = $2 AND key_id = $3

-- name: sweep
-- Values that no secret has (what came before its event or stayed after it when a process died), and those of deleted apps.
DELETE FROM vault_secrets v
WHERE v.created_at < now() - make_interval(secs => $1) AND (
    NOT EXISTS (SELECT FROM secrets s WHERE s.app_id = v.app_id AND s.value_id = v.value_id)
    OR EXISTS (SELECT FROM log_head h WHERE h.app_id = v.app_id AND h.closed)
)
