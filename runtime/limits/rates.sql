-- name: web_processes
SELECT count(*)::integer AS processes FROM workers WHERE 'web' = ANY (roles) AND beat_at > clock_timestamp() - make_interval(secs => $1)
