-- Read-only doors for stock `eventsourcing` applications: one schema and view per app that somebody wants to read with that library.

CREATE FUNCTION picloud_refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this view of an app''s log is read-only' USING ERRCODE = 'read_only_sql_transaction';
END
$$;

-- Makes view `<schema_name>.<application_name>_events` of one app's log, named and shaped as that library's PostgreSQL recorder expects its table, and lets `reader` read it.
-- The view is a security barrier: a role that may read nothing else learns nothing of other apps.
CREATE FUNCTION picloud_open_app(app uuid, schema_name text, application_name text DEFAULT 'stored', reader text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    view_name text := lower(application_name) || '_events';
BEGIN
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', schema_name);
    EXECUTE format(
        'CREATE OR REPLACE VIEW %I.%I WITH (security_barrier) AS '
        'SELECT originator_id, originator_version, topic, state, position AS notification_id, metadata, recorded_at FROM %I.events WHERE app_id = %L',
        schema_name, view_name, current_schema(), app
    );
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON %I.%I FOR EACH ROW EXECUTE FUNCTION %I.picloud_refuse_write()',
        schema_name, view_name, current_schema()
    );
    IF reader IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema_name, reader);
        EXECUTE format('GRANT SELECT ON %I.%I TO %I', schema_name, view_name, reader);
    END IF;
END
$$;
