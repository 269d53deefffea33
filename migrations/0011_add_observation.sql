-- How far each read model that is followed (not written by the append itself) has come in each app's log; moved in the transaction that writes its rows.
CREATE TABLE projection_checkpoints (
    projection text   COLLATE "C" NOT NULL,
    app_id     uuid   NOT NULL,
    position   bigint NOT NULL,
    PRIMARY KEY (projection, app_id)
) WITH (fillfactor = 50);

-- When a record was written: what has ended lately is found by this, however long ago it began.
ALTER TABLE execution_records ADD COLUMN recorded_at timestamptz;
CREATE INDEX execution_records_recorded ON execution_records (app_id, recorded_at);
