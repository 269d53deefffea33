"""The wall behind the wall: what a run's reader is shown when a statement forgets its app or names another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.lowlevel
import asyncpg
import pytest

from adapters.postgres import app_readers
from adapters.postgres.app_readers import AppReaders, open_app_readers
from adapters.postgres.projecting.app_views import ROLE, SCHEMA, shown_tables
from domain.errors import Unavailable
from runtime.database import prepare_database, rebuild_projections

pytestmark = pytest.mark.anyio

MINE, OTHER = UUID(int=1), UUID(int=2)
MAX: Final = 3
NOT_SHOWN: Final = {
    "log_head": "runs know no positions",
    "unit_keys": "the log's own",
    "worker_tails": "of processes",
    "projection_checkpoints": "of followers",
    "usage_days": "counted by processes",
    "execution_records": "for administration",
    "vault_secrets": "read by the host, bound to the app by encryption",
    "vault_subscriber_keys": "read by the host",
}
"""Tables with an `app_id` that no run reads, and why."""
_VALUES: Final = {
    "uuid": "gen_random_uuid()",
    "text": "gen_random_uuid()::text",
    "bigint": "1",
    "integer": "1",
    "smallint": "1",
    "numeric": "1",
    "double precision": "1",
    "interval": "'1 s'",
    "boolean": "true",
    "jsonb": "'{}'",
    "bytea": "''",
    "timestamp with time zone": "now()",
    "date": "current_date",
    "text[]": "'{}'",
}


async def fill(connection: asyncpg.Connection, table: str, app_id: UUID) -> None:
    """Put some row of an app into a table."""
    columns = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull AND attname <> 'app_id'",
        f"public.{table}",
    )
    names, values = [row["attname"] for row in columns], [_VALUES[row["type"]] for row in columns]
    await connection.execute(f"INSERT INTO public.{table} (app_id, {', '.join(names)}) VALUES ($1, {', '.join(values)})", app_id)


@pytest.fixture
async def tables(connection: asyncpg.Connection) -> list[str]:
    """The tables that runs are shown, each with a row of two apps."""
    found = await shown_tables(connection, "public")
    for table in found:
        for app_id in (MINE, OTHER):
            await fill(connection, table, app_id)
    return found


@pytest.fixture
async def readers(dsn: str) -> AsyncIterator[AppReaders]:
    async with open_app_readers(dsn, MAX) as opened:
        yield opened


async def opened_by(connection: asyncpg.Connection) -> list[Any]:
    """The connections that scripts read by."""
    sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'picloud-scripts' AND datname = current_database()"
    return [row["pid"] for row in await connection.fetch(sql)]


async def test_a_statement_that_forgets_its_app_or_has_another_finds_nothing_of_another(tables: list[str], readers: AppReaders) -> None:
    assert {"events", "kv_entries", "documents", "files", "scripts", "dead_letters", "topics"} <= set(tables)
    for table in tables:
        found = [row["app_id"] for row in await readers(MINE).fetch(f"SELECT app_id FROM {table}")]
        assert found == [MINE], table
        assert await readers(MINE).fetch(f"SELECT * FROM {table} WHERE app_id = $1", OTHER) == [], table
        assert await readers(MINE).fetch(f"SELECT * FROM {table} WHERE app_id <> $1", MINE) == [], table
        assert len(await readers(OTHER).fetch(f"SELECT * FROM {table} WHERE app_id = $1", OTHER)) == 1, table


async def test_whoever_names_no_app_is_shown_nothing(dsn: str, tables: list[str]) -> None:
    connection = await asyncpg.connect(dsn)
    for table in tables:
        assert await connection.fetch(f"SELECT * FROM {SCHEMA}.{table}") == [], table
    await connection.close()


async def test_every_table_with_an_app_is_shown_or_known_not_to_be(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT table_name AS name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE column_name = 'app_id' AND table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'execution\\_records\\_%'"
    )
    assert {row["name"] for row in rows} == {*await shown_tables(connection, "public"), *NOT_SHOWN}


async def test_the_role_can_read_the_views_and_nothing_else(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT c.oid::regclass::text AS name, n.nspname AS schema, right_ FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS right_ "
        "WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relkind IN ('r', 'p', 'v', 'm') "
        "AND has_table_privilege($1::name, c.oid, right_)",
        ROLE,
    )
    assert {(row["schema"], row["right_"]) for row in rows} == {(SCHEMA, "SELECT")}
    assert len(rows) == len(await shown_tables(connection, "public"))


@pytest.mark.parametrize("table", ["users", "apps", "kv_entries", "events", "vault_passwords", "vault_sessions", "vault_secrets", "vault_keys", "outbox"])
async def test_tables_themselves_are_out_of_reach(readers: AppReaders, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await readers(MINE).fetch(f"SELECT * FROM public.{table}")


@pytest.mark.parametrize("table", ["users", "vault_passwords", "vault_secrets"])
async def test_what_has_no_view_has_no_name(readers: AppReaders, table: str) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await readers(MINE).fetch(f"SELECT * FROM {table}")


@pytest.mark.usefixtures("tables")
async def test_nothing_is_written(readers: AppReaders) -> None:
    for statement in ("DELETE FROM kv_entries", "UPDATE kv_entries SET value = '0'", "CREATE TEMPORARY TABLE kv_entries (app_id uuid)"):
        with pytest.raises((Unavailable, asyncpg.InsufficientPrivilegeError)):
            await readers(MINE).fetch(statement)
    assert len(await readers(MINE).fetch("SELECT * FROM kv_entries")) == 1


async def test_many_apps_on_few_connections_see_their_own(connection: asyncpg.Connection, readers: AppReaders) -> None:
    apps = [UUID(int=number) for number in range(1, 11)]
    for app_id in apps:
        await fill(connection, "kv_entries", app_id)

    async def read(app_id: UUID) -> None:
        for _ in range(50):
            assert [row["app_id"] for row in await readers(app_id).fetch("SELECT app_id FROM kv_entries")] == [app_id]

    async with anyio.create_task_group() as tasks:
        for app_id in apps:
            tasks.start_soon(read, app_id)
    assert len(await opened_by(connection)) == MAX


async def test_an_app_finds_its_connection_again(connection: asyncpg.Connection, readers: AppReaders) -> None:
    asked = "SELECT pg_backend_pid() AS pid"
    mine, other = [(await readers(app_id).fetch(asked))[0]["pid"] for app_id in (MINE, OTHER)]
    for _ in range(3):
        assert (await readers(MINE).fetch(asked))[0]["pid"] == mine != other
        assert (await readers(OTHER).fetch(asked))[0]["pid"] == other
    assert len(await opened_by(connection)) == 2


@pytest.mark.usefixtures("tables")
async def test_a_read_that_is_cut_off_leaves_a_connection_that_shows_the_next_its_own(connection: asyncpg.Connection, dsn: str) -> None:
    async with open_app_readers(dsn, 1) as readers:
        for delay_s in (0, 0.0002, 0.0005, 0.001, 0.05):
            with anyio.move_on_after(delay_s):
                await readers(OTHER).fetch("SELECT pg_sleep(60)")
            assert [row["app_id"] for row in await readers(MINE).fetch("SELECT app_id FROM kv_entries")] == [MINE]
        assert len(await opened_by(connection)) == 1


@pytest.mark.usefixtures("tables")
async def test_lost_connections_are_replaced(connection: asyncpg.Connection, readers: AppReaders) -> None:
    async def lose() -> None:
        with pytest.raises(Unavailable):
            await readers(MINE).fetch("SELECT pg_sleep(60)")

    for _ in range(2):
        await readers(MINE).fetch("SELECT FROM kv_entries")
        (pid,) = await opened_by(connection)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose)
            await anyio.lowlevel.checkpoint()
            await connection.execute("SELECT pg_terminate_backend($1)", pid)
        assert len(await readers(MINE).fetch("SELECT FROM kv_entries")) == 1


async def test_a_connection_that_was_idle_for_long_is_not_trusted(readers: AppReaders, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "SELECT pg_backend_pid() AS pid"
    before = await readers(MINE).fetch(asked)
    assert await readers(MINE).fetch(asked) == before
    monkeypatch.setattr(app_readers, "_STALE_S", 0.0)
    assert await readers(MINE).fetch(asked) != before


async def test_a_rebuild_under_reads_keeps_the_wall(connection: asyncpg.Connection, dsn: str, readers: AppReaders) -> None:
    done = anyio.Event()
    reads = 0

    async def read(app_id: UUID) -> None:
        nonlocal reads
        while not done.is_set():
            assert await readers(app_id).fetch("SELECT k.app_id FROM kv_entries k, documents d, scripts s, script_versions v") == []
            reads += 1

    async with anyio.create_task_group() as tasks:
        for app_id in (MINE, OTHER):
            tasks.start_soon(read, app_id)
        for _ in range(3):
            await rebuild_projections(dsn)
        done.set()
    assert reads > 0
    for app_id in (MINE, OTHER):
        await fill(connection, "kv_entries", app_id)
        assert [row["app_id"] for row in await readers(app_id).fetch("SELECT app_id FROM kv_entries")] == [app_id]
    await test_the_role_can_read_the_views_and_nothing_else(connection)
    await test_every_table_with_an_app_is_shown_or_known_not_to_be(connection)


async def test_what_is_missing_of_the_views_is_made_at_the_next_start(connection: asyncpg.Connection, dsn: str, readers: AppReaders) -> None:
    await connection.execute(f"DROP VIEW {SCHEMA}.files; REVOKE SELECT ON {SCHEMA}.topics FROM {ROLE}; ALTER TABLE events ADD COLUMN more text")
    async with anyio.create_task_group() as starters:
        for _ in range(4):
            starters.start_soon(prepare_database, dsn)
    await test_the_role_can_read_the_views_and_nothing_else(connection)
    assert await readers(MINE).fetch("SELECT more FROM events") == []
