-- Live processes: they beat; one that stops beating has its claims taken back.
CREATE TABLE workers (
    id         uuid        PRIMARY KEY,
    host       text        NOT NULL,
    pid        integer     NOT NULL,
    roles      text[]      NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- How far each live process has followed an app's scripts, routes and domains.
CREATE TABLE worker_tails (
    worker_id uuid   NOT NULL REFERENCES workers ON DELETE CASCADE,
    app_id    uuid   NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (worker_id, app_id)
) WITH (fillfactor = 50);

-- Fences of claims: every claim gets a new one.
CREATE SEQUENCE claim_fences;

-- What ran, best effort and only for a while: one partition a day, dropped whole. Not a projection.
CREATE TABLE execution_records (
    app_id         uuid        NOT NULL,
    started_at     timestamptz NOT NULL,
    execution_id   uuid        NOT NULL,
    script_id      uuid        NOT NULL,
    script_version integer     NOT NULL,
    source         text        NOT NULL,
    trigger_id     uuid,
    attempt        integer     NOT NULL,
    outcome        text        NOT NULL,
    status         integer,
    duration_ms    double precision NOT NULL,
    request_id     text,
    actor          text        NOT NULL,
    correlation_id uuid,
    depth          integer     NOT NULL,
    first_position bigint,
    last_position  bigint,
    error          jsonb,
    logs           jsonb,
    journal        jsonb,
    PRIMARY KEY (app_id, started_at, execution_id, attempt)
) PARTITION BY RANGE (started_at);
CREATE INDEX execution_records_id ON execution_records (app_id, execution_id);
CREATE INDEX execution_records_script ON execution_records (app_id, script_id, started_at DESC);

-- The id of the execution that a trigger makes of an event: a UUIDv7 of the event's time whose other bits are a digest, so that a rebuild derives the same one.
CREATE FUNCTION picloud_execution_id(at timestamptz, app_id uuid, cause bigint, trigger_id uuid) RETURNS uuid
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || left(digest, 3) || 'a' || substr(digest, 4, 3) || substr(digest, 7, 12))::uuid
    FROM md5(app_id::text || cause::text || trigger_id::text) AS digest
$$;

-- Partitions of execution_records are named by their day (UTC) and made, or dropped whole, by these.
CREATE FUNCTION picloud_ensure_records_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF execution_records FOR VALUES FROM (%L) TO (%L)',
        'execution_records_' || to_char(day, 'YYYYMMDD'), day::text || 'T00:00:00Z', (day + 1)::text || 'T00:00:00Z'
    );
EXCEPTION WHEN duplicate_table OR unique_violation THEN
    NULL; -- another process made it at the same instant
END
$$;
CREATE FUNCTION picloud_drop_records_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS %I', 'execution_records_' || to_char(day, 'YYYYMMDD'));
END
$$;
