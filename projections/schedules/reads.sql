-- name: due
-- A closed log takes no more events. The time to the next one is that of the first row which is not due.
WITH due AS (
    SELECT s.app_id, s.trigger_id, s.trigger_version, s.tick_version, s.script_id, s.schedule, s.timezone, s.overlap, s.next_due_at,
        EXISTS (SELECT FROM outbox o WHERE o.app_id = s.app_id AND o.trigger_id = s.trigger_id AND o.source = 'cron') AS is_busy
    FROM schedules s JOIN log_head h ON h.app_id = s.app_id
    WHERE s.next_due_at <= $1 AND NOT h.closed AND s.app_id <> ALL ($3::uuid[])
    ORDER BY s.next_due_at
    LIMIT $2
)
SELECT due.*, following.next_due_at AS following_at
FROM (SELECT min(next_due_at) AS next_due_at FROM schedules WHERE next_due_at > $1) following LEFT JOIN due ON true

-- name: schedules
SELECT trigger_id, tick_version, schedule, timezone, next_due_at, last_scheduled_at, last_fired_at, last_execution_id, last_skip_reason
FROM schedules
WHERE app_id = $1 AND trigger_id = ANY ($2::uuid[])
