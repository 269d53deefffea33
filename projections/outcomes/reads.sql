-- name: dead_letter
SELECT
    dead_letter_id, source, script_id, trigger_id, cause_position, attempts, reason, last_error::text AS last_error, first_attempt_at, last_attempt_at, depth,
    correlation_id, dead_lettered_at, resolution, resolved_at, resolved_by, resolve_reason, replayed_as
FROM dead_letters
WHERE app_id = $1 AND dead_letter_id = $2

-- name: dead_letters
SELECT
    dead_letter_id, source, script_id, trigger_id, cause_position, attempts, reason, last_error::text AS last_error, first_attempt_at, last_attempt_at, depth,
    correlation_id, dead_lettered_at, resolution, resolved_at, resolved_by, resolve_reason, replayed_as
FROM dead_letters
WHERE app_id = $1 AND ($2::uuid IS NULL OR dead_letter_id < $2)
  AND ($3::text IS NULL OR source = $3) AND ($4::uuid IS NULL OR trigger_id = $4) AND ($5::uuid IS NULL OR script_id = $5)
ORDER BY dead_letter_id DESC
LIMIT $6

-- name: unresolved_dead_letters
SELECT
    dead_letter_id, source, script_id, trigger_id, cause_position, attempts, reason, last_error::text AS last_error, first_attempt_at, last_attempt_at, depth,
    correlation_id, dead_lettered_at, resolution, resolved_at, resolved_by, resolve_reason, replayed_as
FROM dead_letters
WHERE app_id = $1 AND resolution IS NULL AND ($2::uuid IS NULL OR dead_letter_id < $2)
  AND ($3::text IS NULL OR source = $3) AND ($4::uuid IS NULL OR trigger_id = $4) AND ($5::uuid IS NULL OR script_id = $5)
ORDER BY dead_letter_id DESC
LIMIT $6

-- name: replayable_dead_letters
SELECT dead_letter_id
FROM dead_letters
WHERE app_id = $1 AND resolution IS NULL AND ($2::uuid IS NULL OR dead_letter_id > $2)
  AND ($3::text IS NULL OR source = $3) AND ($4::uuid IS NULL OR trigger_id = $4) AND ($5::uuid IS NULL OR script_id = $5)
  AND ($6::timestamptz IS NULL OR dead_lettered_at >= $6) AND dead_lettered_at < $7
ORDER BY dead_letter_id
LIMIT $8

-- name: count_dead_letters
SELECT count(*) AS total, count(*) FILTER (WHERE resolution IS NULL) AS unresolved FROM dead_letters WHERE app_id = $1
