-- name: active
SELECT kid, key FROM vault_subscriber_keys WHERE app_id = $1 AND retired_at IS NULL

-- name: make_first
-- Of several that make the first key at once one wins, and all use its. A deleted app, which a run may still be of, gets none.
WITH ended AS MATERIALIZED (SELECT EXISTS (SELECT FROM log_head WHERE app_id = $1 AND closed) AS closed),
made AS (
    INSERT INTO vault_subscriber_keys (app_id, kid, key) SELECT $1::uuid, $2::text, $3::bytea FROM ended WHERE NOT closed ON CONFLICT DO NOTHING
)
SELECT closed FROM ended

-- name: rotate
WITH retired AS (
    UPDATE vault_subscriber_keys SET retired_at = now() WHERE app_id = $1 AND retired_at IS NULL RETURNING kid
)
SELECT kid FROM retired

-- name: forget
DELETE FROM vault_subscriber_keys WHERE app_id = $1 AND retired_at < now() - make_interval(secs => $2)

-- name: good
SELECT key FROM vault_subscriber_keys
WHERE app_id = $1 AND kid = $2 AND revoked_at IS NULL AND (retired_at IS NULL OR retired_at > now() - make_interval(secs => $3))

-- name: list
SELECT kid, created_at, retired_at, revoked_at FROM vault_subscriber_keys WHERE app_id = $1 ORDER BY created_at DESC, kid LIMIT 200

-- name: revoke
-- A revoked key is retired too, so that the next token makes another.
UPDATE vault_subscriber_keys SET revoked_at = coalesce(revoked_at, now()), retired_at = coalesce(retired_at, now())
WHERE app_id = $1 AND kid = $2
RETURNING kid

-- name: remove
DELETE FROM vault_subscriber_keys WHERE app_id = $1 AND kid = $2
