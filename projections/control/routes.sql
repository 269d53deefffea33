-- name: schema
CREATE TABLE routes (
    app_id     uuid        NOT NULL,
    route_id   uuid        NOT NULL,
    script_id  uuid        NOT NULL,
    route      jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, route_id)
);
CREATE UNIQUE INDEX routes_id ON routes (route_id);
CREATE INDEX routes_script ON routes (app_id, script_id)

-- name: save_routes
INSERT INTO routes SELECT * FROM jsonb_populate_recordset(NULL::routes, $1::text::jsonb)
ON CONFLICT (app_id, route_id) DO UPDATE SET script_id = excluded.script_id, route = excluded.route

-- name: delete_routes
DELETE FROM routes USING jsonb_populate_recordset(NULL::routes, $1::text::jsonb) AS gone
WHERE routes.app_id = gone.app_id AND routes.route_id = gone.route_id
