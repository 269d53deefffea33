from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from adapters.postgres.connect import connect
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import rebuild
from domain.registry import EVENTS
from projections.registry import PROJECTIONS
from runtime.database import rebuild_projections

pytestmark = pytest.mark.anyio

CATALOGUE = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod) || a.attnotnull || coalesce(l.collname, '') || a.attnum
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
UNION ALL
SELECT 'table', relname, '', concat(relpersistence, reloptions::text, obj_description(oid, 'pg_class')) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'type', typname, typtype::text, '' FROM pg_type WHERE typnamespace = 'public'::regnamespace
UNION ALL
SELECT 'schema', nspname, '', '' FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2, 3
"""


async def catalogue(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(CATALOGUE)]


async def test_a_rebuilt_database_has_the_catalogue_of_a_fresh_one(dsn: str, connection: asyncpg.Connection) -> None:
    fresh = await catalogue(connection)
    assert ("schema", "public", "", "") in fresh
    for _ in range(2):
        await rebuild_projections(dsn)
        assert await catalogue(connection) == fresh


class Wider:
    """The next version of a projection, whose table has a column more."""

    def __init__(self, original: Any) -> None:
        self.name, self.version, self.tables = original.name, original.version + 1, original.tables
        self.schema = original.schema.replace("route      jsonb", "note text, route jsonb")
        self.volatile_columns, self.handles, self.apply = original.volatile_columns, original.handles, original.apply


async def test_a_prepared_read_survives_a_swap_that_changes_its_columns(dsn: str) -> None:
    reader = await connect(dsn)
    routes = next(projection for projection in PROJECTIONS if projection.name == "routes")
    try:
        assert await reader.fetch("SELECT * FROM routes") == []
        await rebuild(dsn, [Wider(routes)], StructMapper(EVENTS))
        # Outside of a transaction the driver prepares the statement again; within one it cannot, because the error has ended the transaction.
        assert await reader.fetch("SELECT * FROM routes") == []
        await rebuild(dsn, [routes], StructMapper(EVENTS))
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with reader.transaction():
                await reader.fetch("SELECT * FROM routes")
    finally:
        await reader.close()


async def test_what_a_killed_rebuild_has_left_goes(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE SCHEMA picloud_next; CREATE TABLE picloud_next.outbox (a int)")
    await rebuild_projections(dsn, ["outbox"])
    assert not await connection.fetch("SELECT FROM pg_namespace WHERE nspname = 'picloud_next'")
