-- name: outbox
SELECT count(*) AS depth,
       count(*) FILTER (WHERE worker_id IS NULL AND due_at <= now()) AS due,
       coalesce(extract(epoch FROM now() - min(due_at) FILTER (WHERE worker_id IS NULL AND due_at <= now())), 0) AS age_s
FROM outbox

-- name: lag
-- How many events each followed read model has still to apply, in all logs together.
SELECT p.name, coalesce(sum(h.position - coalesce(c.position, 0)), 0) AS events
FROM unnest($1::text[]) AS p (name) CROSS JOIN log_head h LEFT JOIN projection_checkpoints c ON c.projection = p.name AND c.app_id = h.app_id
WHERE NOT h.closed
GROUP BY p.name
