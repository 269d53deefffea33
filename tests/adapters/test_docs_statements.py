"""Plans of what finds documents, on enough of them that a wrong one would hurt, under the settings of production."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from unittest.mock import patch
from uuid import UUID

import asyncpg
import pytest

from adapters.postgres.app_readers import open_app_readers
from adapters.postgres.connect import open_pool
from adapters.postgres.reader import PgReader
from domain.docs.queries import parse_query
from projections.docs import reads
from projections.docs.compile import MAX_INDEXED_VALUES
from projections.docs.reads import count_statement, find_documents, find_statement, page_collections

pytestmark = pytest.mark.anyio

APP, OTHER = UUID(int=1), UUID(int=2)
FILL = """
INSERT INTO documents (app_id, collection, id, data, tree, version, created_at, updated_at)
SELECT $1::uuid, 'c', lpad(n::text, 6, '0'), d.data, jsonb_build_object($1::uuid::text || '/c', d.data::jsonb), 1, now(), now()
FROM
    generate_series(1, $2::integer) AS n,
    LATERAL (SELECT jsonb_build_object('n', n, 'few', n % 500, 'half', n % 2, 'in', jsonb_build_object('a', n % 125))::text) AS d (data)
"""


Fetch = Callable[..., Awaitable[Sequence[Any]]]


@pytest.fixture(params=["owner", "scripts"])
async def fetch(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Fetch]:
    """What administration reads by, and what scripts do: plans have to be as good through the views."""
    if request.param == "owner":
        async with open_pool(dsn, 1) as pool:
            yield pool.fetch
    else:
        async with open_app_readers(dsn, 1) as readers:
            yield readers(APP).fetch


async def plan(fetch: Fetch, connection: asyncpg.Connection, raw: Any) -> str:
    await connection.execute(FILL, APP, 5_000)
    await connection.execute(FILL, OTHER, 5_000)
    await connection.execute("ANALYZE documents")
    statement = find_statement(APP, "c", parse_query(raw), 1 << 22)
    return "\n".join(row[0] for row in await fetch(f"EXPLAIN (ANALYZE, BUFFERS OFF) {statement.sql}", *statement.args))


def actual_rows(line: str) -> int:
    return int(line.partition("actual")[2].partition("rows=")[2].split()[0].partition(".")[0])


@pytest.mark.parametrize(
    "raw",
    [
        {"few": 7},
        {"in.a": 7, "$sort": {"n": -1}},
        {"few": {"$in": [1, 2, 3]}},
        {"few": 7, "n": {"$gt": 5}},
        {"$or": [{"few": 1}, {"in.a": 2}]},
        {"$and": [{"half": {"$ne": 0}}, {"$or": [{"few": 1}, {"few": 2, "n": 5}]}]},
        {"few": {"$eq": 7, "$not": {"$lt": 3}}},
    ],
)
async def test_equality_is_looked_up(fetch: Fetch, connection: asyncpg.Connection, raw: Any) -> None:
    found = await plan(fetch, connection, raw)
    assert "Bitmap Index Scan on documents_tree" in found
    assert "Seq Scan" not in found
    assert all("never executed" in line for line in found.splitlines() if "documents_pkey" in line)
    assert "documents_long" in found
    # Nothing of the other app's equal documents is looked at.
    assert max(actual_rows(line) for line in found.splitlines() if "Bitmap Heap" in line) <= 100


async def test_what_is_common_is_walked_to_and_no_further_than_needed(fetch: Fetch, connection: asyncpg.Connection) -> None:
    with patch.object(reads, "_MOST_INDEXED", 100):
        found = await plan(fetch, connection, {"half": 1, "$limit": 10})
    walk = next(line for line in found.splitlines() if "documents_pkey" in line)
    assert actual_rows(walk) == 11, found
    assert max(actual_rows(line) for line in found.splitlines() if "Bitmap Heap" in line) == 101, found


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"n": {"$gt": 4_000}},
        {"few": {"$ne": 7}},
        {"$or": [{"few": 1}, {"n": {"$lt": 5}}]},
        {"few": {"$in": list(range(MAX_INDEXED_VALUES + 1))}},
        {"few": []},
        {"$sort": "n", "$limit": 5},
    ],
)
async def test_everything_else_walks_through_its_own_collection(fetch: Fetch, connection: asyncpg.Connection, raw: Any) -> None:
    found = await plan(fetch, connection, raw)
    assert "documents_pkey" in found
    assert "Seq Scan" not in found


async def test_a_page_by_id_reads_no_more_than_itself(fetch: Fetch, connection: asyncpg.Connection) -> None:
    found = await plan(fetch, connection, {"$limit": 10, "$cursor": {"id": "001000", "data": {}}})
    scan = next(line for line in found.splitlines() if "documents_pkey" in line)
    assert actual_rows(scan) == 11, found


async def test_long_documents_are_found_without_the_index(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute(FILL, APP, 10)
    long = """UPDATE documents SET data = overlay(data PLACING '{"long": "' || repeat('x', 20000) || '", ' FROM 1 FOR 1) WHERE id = '000007'"""
    await connection.execute(long)
    await connection.execute("UPDATE documents SET tree = jsonb_build_object(app_id::text || '/c', data::jsonb)")
    async with open_pool(dsn, 1) as pool:
        for raw in ({"n": {"$in": [3, 7]}}, {"n": {"$in": [3, 7]}, "$sort": "few"}):
            documents, _ = await find_documents(PgReader(pool), APP, "c", parse_query(raw), max_bytes=1 << 22)
            assert [document.id for document in documents] == ["000003", "000007"]


async def test_counts_are_looked_up_too(fetch: Fetch, connection: asyncpg.Connection) -> None:
    await plan(fetch, connection, {})
    statement = count_statement(APP, "c", parse_query({"few": 7}).only)
    found = "\n".join(row[0] for row in await fetch(f"EXPLAIN {statement.sql}", *statement.args))
    assert "Bitmap Index Scan on documents_tree" in found
    assert (await fetch(statement.sql, *statement.args))[0][0] == 10


async def test_apps_and_collections_are_kept_apart(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute(FILL, APP, 10)
    async with open_pool(dsn, 1) as pool:
        reader = PgReader(pool)
        for app_id, collection, count in ((APP, "c", 10), (OTHER, "c", 0), (APP, "d", 0)):
            for raw in ({}, {"half": {"$in": [0, 1]}}, {"n": {"$gt": 0}}):
                documents, more = await find_documents(reader, app_id, collection, parse_query(raw), max_bytes=1 << 22)
                assert (len(documents), more) == (count, False)
        assert [(found.collection, found.documents) for found in await page_collections(reader, APP, None, 10)] == [("c", 10)]


HOSTILE = ["'", "'; DROP TABLE documents; --", "$1", "{condition}", "{order}", "%s", "\\", '"', "a'||'b", "/*", "\u2028"]


def hostile_query(word: str) -> Any:
    """A query that says a word wherever a caller can."""
    field, value = f"x{word}", {f"v{word}": word}
    conditions = {"$in": [word], "$gt": word, "$prefix": word, "$ne": value}
    return {field: conditions, f"y{word}": value, "$sort": field, "$cursor": {"id": word, "data": {field: word}}}


@pytest.mark.parametrize("word", HOSTILE)
async def test_nothing_that_a_caller_says_is_in_the_text_of_a_statement(dsn: str, connection: asyncpg.Connection, word: str) -> None:
    await connection.execute(FILL, APP, 10)
    plain = find_statement(APP, "c", parse_query(hostile_query("plain")), 1 << 22, ["plain"])
    hostile = find_statement(APP, word, parse_query(hostile_query(word)), 1 << 22, [word])
    assert hostile.sql == plain.sql
    async with open_pool(dsn, 1) as pool:
        assert await pool.fetch(hostile.sql, *hostile.args) == []
