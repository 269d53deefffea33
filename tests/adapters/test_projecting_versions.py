from __future__ import annotations

from typing import Any

import anyio
import asyncpg
import pytest
from structlog.testing import capture_logs

from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.mapper import StructMapper
from adapters.postgres.migrate import migrate
from adapters.postgres.projecting import ensure_projections
from domain.registry import EVENTS
from projections.registry import FOLLOWED, PROJECTIONS
from runtime.database import prepare_database
from tests.adapters.log_support import open_test_log

pytestmark = pytest.mark.anyio
DECODER = StructMapper(EVENTS)
ALL = (*PROJECTIONS, *FOLLOWED)


async def tables(connection: asyncpg.Connection) -> set[str]:
    return {row[0] for row in await connection.fetch("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")}


async def versions(connection: asyncpg.Connection) -> dict[str, int]:
    return {row["name"]: row["version"] for row in await connection.fetch("SELECT name, version FROM projection_versions")}


async def test_a_prepared_database_has_every_table_and_no_shadow(connection: asyncpg.Connection) -> None:
    assert {table for projection in ALL for table in projection.tables} <= await tables(connection)
    assert await versions(connection) == {projection.name: projection.version for projection in ALL}
    assert not await connection.fetch("SELECT FROM pg_namespace WHERE nspname = 'picloud_next'")


async def test_concurrent_starters_make_projections_once(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    async with anyio.create_task_group() as starters:
        for _ in range(5):
            starters.start_soon(prepare_database, empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    try:
        assert await versions(connection) == {projection.name: projection.version for projection in ALL}
    finally:
        await connection.close()


async def test_a_newer_projection_is_refused(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE projection_versions SET version = 99 WHERE name = 'outbox'")
    with pytest.raises(DatabaseUnusable, match="projection outbox at version 99, newer than"):
        await ensure_projections(dsn, PROJECTIONS, DECODER)


async def test_processes_that_run_while_projections_change_under_them_are_told_of(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_test_log(dsn):
        for older in ("", "WHERE name IN ('users', 'apps')"):
            await connection.execute(f"UPDATE projection_versions SET version = version - 1 {older or 'WHERE false'}")
            with capture_logs() as logs:
                await prepare_database(dsn)
            told = [entry for entry in logs if entry["event"] == "older_processes_run"]
            assert [(entry["processes"], entry["remedy"]) for entry in told] == ([(1, "stop them, then: picloud rebuild apps users")] if older else [])
    await connection.execute("UPDATE projection_versions SET version = version - 1 WHERE name = 'users'")
    with capture_logs() as logs:
        await prepare_database(dsn)
    assert "older_processes_run" not in {entry["event"] for entry in logs}


async def test_a_table_of_somebody_else_is_left_alone(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute("CREATE TABLE users (mine text)")
        with pytest.raises(DatabaseUnusable, match="users"):
            await prepare_database(empty_dsn)
        await connection.execute("INSERT INTO users VALUES ('still here')")
        assert not await connection.fetch("SELECT FROM pg_namespace WHERE nspname = 'picloud_next'")
    finally:
        await connection.close()


class Renamed:
    """A projection's next version, which has given its table another name."""

    def __init__(self, original: Any) -> None:
        self.name, self.version = original.name, original.version + 1
        self.schema = original.schema.replace("kv_entries", "entries")
        self.tables = ("entries",)
        self.volatile_columns = original.volatile_columns
        self.handles = original.handles

    def apply(self, events: Any) -> list[Any]:
        return []


async def test_an_older_projection_is_rebuilt_and_its_old_tables_go(dsn: str, connection: asyncpg.Connection) -> None:
    await ensure_projections(dsn, [Renamed(PROJECTIONS[0])], DECODER)
    found = await tables(connection)
    assert "entries" in found
    assert "kv_entries" not in found
    assert (await versions(connection))["kv"] == PROJECTIONS[0].version + 1
