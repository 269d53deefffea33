-- The log of a deleted app is closed; then whatever else is stored of the app is deleted, and once nothing is left, its log is marked as `dropped`.
ALTER TABLE log_head ADD COLUMN dropped boolean NOT NULL DEFAULT false;

-- Deletes up to `most` rows of an app from one table (of a partitioned one: from one partition); returns how many.
CREATE FUNCTION picloud_delete_rows(place regclass, app uuid, most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    EXECUTE format('DELETE FROM ONLY %s WHERE app_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM ONLY %s WHERE app_id = $1 LIMIT $2))', place, place)
    USING app, most;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
