-- The log: one gapless sequence of events per app, and the nil log of the instance itself.
-- `epoch` goes up whenever a batch that was judged at this head must never arrive: its connection was lost before it answered, or the log was closed.
CREATE TABLE log_head (
    app_id           uuid        PRIMARY KEY,
    position         bigint      NOT NULL DEFAULT 0,
    epoch            bigint      NOT NULL DEFAULT 0,
    last_recorded_at timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z',
    closed           boolean     NOT NULL DEFAULT false
) WITH (fillfactor = 10);

CREATE TABLE events (
    app_id             uuid        NOT NULL,
    position           bigint      NOT NULL,
    originator_id      text        COLLATE "C" NOT NULL,
    originator_version bigint      NOT NULL,
    topic              text        COLLATE "C" NOT NULL,
    state              bytea       NOT NULL,
    metadata           jsonb       NOT NULL,
    recorded_at        timestamptz NOT NULL,
    PRIMARY KEY (app_id, position),
    CONSTRAINT events_stream_version UNIQUE (app_id, originator_id, originator_version)
);

-- One execution's events ("what did this request do?"); correlation ids are UUIDv7, so the index grows at its right edge.
CREATE INDEX events_correlation ON events (app_id, (metadata ->> 'correlation_id'));

-- Events are appended, never changed: not by us, and not by a slip of somebody's psql.
CREATE FUNCTION events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'PC002';
END
$$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change();

-- Units that carried an idempotency key, with the positions that answer a repetition.
CREATE TABLE unit_keys (
    app_id         uuid        NOT NULL,
    key            text        COLLATE "C" NOT NULL,
    first_position bigint      NOT NULL,
    last_position  bigint      NOT NULL,
    recorded_at    timestamptz NOT NULL,
    PRIMARY KEY (app_id, key)
);

-- Aborts the statement that calls it; the way for a single statement to insist on what it assumes.
CREATE FUNCTION picloud_refuse(complaint text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION '%', complaint USING ERRCODE = 'PC001';
END
$$;

-- Waits for the turn to write to an app, and reads the app's head as it is then: in a function that is volatile, each statement has a snapshot of its own.
CREATE FUNCTION picloud_take_turn(class integer, turn integer, app uuid) RETURNS SETOF log_head LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_lock(class, turn);
    RETURN QUERY SELECT * FROM log_head WHERE app_id = app;
END
$$;

-- Which projections stand at which version of their code.
CREATE TABLE projection_versions (
    name       text        PRIMARY KEY,
    version    integer     NOT NULL,
    rebuilt_at timestamptz NOT NULL DEFAULT now()
);
