-- name: any_user
SELECT EXISTS (SELECT FROM users) AS found

-- name: lock_bootstrap
SELECT pg_advisory_lock($1::integer, 0)

-- name: unlock_bootstrap
SELECT pg_advisory_unlock($1::integer, 0)

-- name: lock_login
SELECT pg_advisory_xact_lock($1::integer, hashtext($2::text))

-- name: put_password
INSERT INTO vault_passwords (user_id, credential_id, hash) VALUES ($1, $2, $3)

-- name: drop_passwords
DELETE FROM vault_passwords WHERE user_id = $1 AND ($2::uuid IS NULL OR credential_id = $2)

-- name: replace_password
UPDATE vault_passwords SET hash = $3 WHERE user_id = $1 AND hash = $2

-- name: delete_stray_passwords
DELETE FROM vault_passwords p WHERE NOT EXISTS (SELECT FROM users u WHERE u.user_id = p.user_id)

-- name: find_login
SELECT u.user_id, u.username, u.email, u.instance_role, u.active, u.credential_id, p.hash
FROM users u JOIN vault_passwords p ON p.user_id = u.user_id AND p.credential_id = u.credential_id
WHERE u.username_key = $1

-- name: find_login_of
SELECT u.user_id, u.username, u.email, u.instance_role, u.active, u.credential_id, p.hash
FROM users u JOIN vault_passwords p ON p.user_id = u.user_id AND p.credential_id = u.credential_id
WHERE u.user_id = $1

-- name: recent_failures
SELECT count(*) AS failures, coalesce(extract(epoch FROM min(failed_at) + make_interval(secs => $3) - clock_timestamp()), 0) AS retry_after_s
FROM (
    SELECT failed_at FROM login_failures
    WHERE username = $1 AND address = $2 AND failed_at > clock_timestamp() - make_interval(secs => $3)
    ORDER BY failed_at DESC LIMIT $4
) AS recent

-- name: note_failure
INSERT INTO login_failures (username, address, failed_at) VALUES ($1, $2, clock_timestamp())

-- name: forget_failures
DELETE FROM login_failures WHERE username = $1 AND address = $2

-- name: create_session
INSERT INTO vault_sessions (token_hash, session_id, user_id, epoch, expires_at, address, user_agent)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5), $6, $7)
RETURNING expires_at

-- name: find_session
SELECT s.session_id, s.epoch, s.expires_at, s.seen_at < now() - make_interval(secs => $2) AS unseen, u.user_id, u.username, u.email, u.instance_role,
    u.version AS user_version,
    (SELECT json_object_agg(m.app_id, json_build_array(m.role, m.version))::text FROM members m WHERE m.user_id = u.user_id) AS memberships
FROM vault_sessions s JOIN users u ON u.user_id = s.user_id AND u.session_epoch = s.epoch
WHERE s.token_hash = $1 AND s.expires_at > now() AND u.active

-- name: extend_session
UPDATE vault_sessions SET seen_at = now(), expires_at = now() + make_interval(secs => $2)
WHERE token_hash = $1 AND expires_at > now()
RETURNING expires_at

-- name: delete_session
DELETE FROM vault_sessions WHERE token_hash = $1
RETURNING session_id, user_id

-- name: sweep_sessions
DELETE FROM vault_sessions s
WHERE s.expires_at < now() OR NOT EXISTS (SELECT FROM users u WHERE u.user_id = s.user_id AND u.session_epoch <= s.epoch)

-- name: sweep_failures
DELETE FROM login_failures WHERE failed_at < now() - make_interval(secs => $1)

-- name: sweep_passwords
-- What came before its event or stayed after the next one when a process died. A new one may be about to get its event.
DELETE FROM vault_passwords p
WHERE p.changed_at < now() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM users u WHERE u.user_id = p.user_id AND u.credential_id = p.credential_id)
