-- name: schema
CREATE TABLE statistics_days (
    app_id  uuid   NOT NULL,
    kind    text   COLLATE "C" NOT NULL,
    day     date   NOT NULL,
    subject uuid   NOT NULL,
    name    text   COLLATE "C" NOT NULL,
    count   bigint NOT NULL,
    PRIMARY KEY (app_id, kind, day, subject, name)
) WITH (fillfactor = 70);
CREATE TABLE statistics_totals (
    app_id  uuid   NOT NULL,
    kind    text   COLLATE "C" NOT NULL,
    subject uuid   NOT NULL,
    name    text   COLLATE "C" NOT NULL,
    count   bigint NOT NULL,
    PRIMARY KEY (app_id, kind, subject, name)
) WITH (fillfactor = 50);
CREATE TABLE statistics_sizes (
    app_id      uuid   NOT NULL,
    kind        text   COLLATE "C" NOT NULL,
    collections bigint NOT NULL,
    items       bigint NOT NULL,
    bytes       bigint NOT NULL,
    PRIMARY KEY (app_id, kind)
) WITH (fillfactor = 50);
CREATE TABLE statistics_collections (
    app_id     uuid   NOT NULL,
    kind       text   COLLATE "C" NOT NULL,
    collection text   COLLATE "C" NOT NULL,
    items      bigint NOT NULL,
    PRIMARY KEY (app_id, kind, collection)
) WITH (fillfactor = 70);
CREATE TABLE statistics_items (
    app_id uuid   NOT NULL,
    stream text   COLLATE "C" NOT NULL,
    bytes  bigint NOT NULL,
    PRIMARY KEY (app_id, stream)
) WITH (fillfactor = 90)

-- name: count
WITH more AS (
    SELECT * FROM unnest($1::uuid[], $2::date[], $3::text[], $4::uuid[], $5::text[], $6::bigint[]) AS m (app_id, day, kind, subject, name, count)
),
days AS (
    INSERT INTO statistics_days AS d (app_id, kind, day, subject, name, count)
    SELECT app_id, kind, day, subject, name, count FROM more
    ON CONFLICT (app_id, kind, day, subject, name) DO UPDATE SET count = d.count + excluded.count
)
INSERT INTO statistics_totals AS t (app_id, kind, subject, name, count)
SELECT app_id, kind, subject, name, sum(count) FROM more GROUP BY app_id, kind, subject, name
ON CONFLICT (app_id, kind, subject, name) DO UPDATE SET count = t.count + excluded.count

-- name: resize
-- All parts of the statement see the rows as they were before it: `was` is the size that `saved` and `gone` change. Rows are looked up one by one and deleted by
-- their places: a join would be planned while the table is small, and compare everything with everything when it is not.
WITH now AS (
    SELECT n.*, i.bytes AS was, i.place
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS n (app_id, stream, kind, collection, bytes)
    LEFT JOIN LATERAL (
        SELECT bytes, ctid AS place FROM statistics_items s WHERE s.app_id = n.app_id AND s.stream = n.stream LIMIT 1
    ) AS i ON true
),
saved AS (
    INSERT INTO statistics_items AS i (app_id, stream, bytes)
    SELECT app_id, stream, bytes FROM now WHERE bytes IS DISTINCT FROM was AND bytes IS NOT NULL
    ON CONFLICT (app_id, stream) DO UPDATE SET bytes = excluded.bytes
),
gone AS (
    DELETE FROM statistics_items WHERE ctid = ANY (ARRAY(SELECT place FROM now WHERE bytes IS NULL AND place IS NOT NULL))
),
delta AS (
    SELECT
        app_id, kind, collection, sum((bytes IS NOT NULL)::integer - (was IS NOT NULL)::integer) AS items,
        sum(coalesce(bytes, 0) - coalesce(was, 0)) AS bytes
    FROM now GROUP BY app_id, kind, collection
),
counted AS (
    INSERT INTO statistics_collections AS c (app_id, kind, collection, items)
    SELECT app_id, kind, collection, items FROM delta
    ON CONFLICT (app_id, kind, collection) DO UPDATE SET items = c.items + excluded.items
    RETURNING app_id, kind, collection, items
)
INSERT INTO statistics_sizes AS s (app_id, kind, collections, items, bytes)
SELECT d.app_id, d.kind, sum((c.items > 0)::integer - (c.items - d.items > 0)::integer), sum(d.items), sum(d.bytes)
FROM delta d JOIN counted c USING (app_id, kind, collection)
GROUP BY d.app_id, d.kind
ON CONFLICT (app_id, kind) DO UPDATE
SET collections = s.collections + excluded.collections, items = s.items + excluded.items, bytes = s.bytes + excluded.bytes

-- name: drop_empty
DELETE FROM statistics_collections WHERE ctid = ANY (
    ARRAY(
        SELECT c.place
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (app_id, kind, collection)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM statistics_collections s
            WHERE s.app_id = t.app_id AND s.kind = t.kind AND s.collection = t.collection AND s.items = 0
            LIMIT 1
        ) AS c
    )
)
