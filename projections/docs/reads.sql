-- name: get
SELECT id, data, version, created_at, updated_at FROM documents WHERE app_id = $1 AND collection = $2 AND id = $3

-- name: find
-- The length of a long text is known without reading it, so a page's bytes are bounded before they are read; its first document comes in any case.
{indexed} SELECT id, data, version, created_at, updated_at, found
FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY {order}) - octet_length(data) AS bytes_before, count(*) OVER () AS found
    FROM ({hits}) hits
) page
WHERE bytes_before < {max_bytes}
ORDER BY {order}

-- name: hits
SELECT id, data, version, created_at, updated_at{keys}
FROM {documents}
WHERE app_id = $1 AND collection = $2 AND {condition}
ORDER BY {order}
LIMIT {limit}

-- name: few_or_many
-- What is common is found sooner by walking through the collection than by fetching and sorting all of it.
({few}) UNION ALL ({many})

-- name: count
{indexed} SELECT count(*) AS documents FROM {documents} WHERE app_id = $1 AND collection = $2 AND {condition}

-- name: indexed
-- Materialized, because the planner, who knows neither values nor limits, might walk through the whole collection instead. Long documents are not in the index
-- of what documents hold, so each of them is looked at.
WITH indexed AS MATERIALIZED (
    SELECT * FROM documents WHERE {index_condition} AND octet_length(data) <= 16384
    UNION ALL
    SELECT * FROM documents WHERE app_id = $1 AND collection = $2 AND octet_length(data) > 16384
)

-- name: some_indexed
WITH indexed AS MATERIALIZED (
    SELECT * FROM documents WHERE {index_condition} AND octet_length(data) <= 16384
    UNION ALL
    SELECT * FROM documents WHERE app_id = $1 AND collection = $2 AND octet_length(data) > 16384
    LIMIT {most} + 1
)

-- name: are_few
(SELECT count(*) FROM indexed) <= {most}

-- name: are_many
(SELECT count(*) FROM indexed) > {most}

-- name: collections
-- One step down the index for each collection, however many documents it has.
WITH RECURSIVE names AS (
    (
        SELECT collection, 1 AS number FROM documents WHERE app_id = $1 AND ($2::text IS NULL OR collection > $2) ORDER BY collection LIMIT 1
    )
    UNION ALL
    SELECT
        (SELECT d.collection FROM documents d WHERE d.app_id = $1 AND d.collection > names.collection ORDER BY d.collection LIMIT 1),
        number + 1
    FROM names
    WHERE names.collection IS NOT NULL AND number < $3
)
SELECT n.collection, (SELECT count(*) FROM documents d WHERE d.app_id = $1 AND d.collection = n.collection) AS documents
FROM names n
WHERE n.collection IS NOT NULL
ORDER BY n.collection
