-- What each app has used up in a day (UTC), best effort: processes add up what they have counted, about once a second. Not a projection.
CREATE TABLE usage_days (
    app_id     uuid   NOT NULL,
    day        date   NOT NULL,
    requests   bigint NOT NULL DEFAULT 0,
    executions bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (app_id, day)
) WITH (fillfactor = 50);
