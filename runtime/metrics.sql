-- name: outbox
SELECT count(*) AS depth,
       count(*) FILTER (WHERE worker_id IS NULL AND due_at <= now()) AS due,
       coalesce(extract(epoch FROM now() - min(due_at) FILTER (WHERE worker_id IS NULL AND due_at <= now())), 0) AS age_s
FROM outbox
