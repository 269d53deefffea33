from __future__ import annotations

from pathlib import Path

import anyio
import asyncpg
import pytest

from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.migrate import load_migrations, migrate, schema_version

pytestmark = pytest.mark.anyio

FIRST = "CREATE TABLE pets (name text PRIMARY KEY);"
SECOND = "INSERT INTO pets VALUES ('Ada');"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_create_pets.sql").write_text(FIRST)
    (tmp_path / "0002_add_ada.sql").write_text(SECOND)
    return tmp_path


async def pets(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["name"] for row in await connection.fetch("SELECT name FROM pets ORDER BY name")]
    finally:
        await connection.close()


async def test_applies_each_once(empty_dsn: str, directory: Path) -> None:
    assert await migrate(empty_dsn, directory) == 2
    assert await migrate(empty_dsn, directory) == 2
    assert await pets(empty_dsn) == ["Ada"]


async def test_a_new_file_is_applied_to_an_old_database(empty_dsn: str, directory: Path) -> None:
    await migrate(empty_dsn, directory)
    (directory / "0003_add_bob.sql").write_text("INSERT INTO pets VALUES ('Bob');")
    assert await migrate(empty_dsn, directory) == 3
    assert await pets(empty_dsn) == ["Ada", "Bob"]


async def test_concurrent_starters_apply_each_once(empty_dsn: str, directory: Path) -> None:
    versions: list[int] = []

    async def start() -> None:
        versions.append(await migrate(empty_dsn, directory))

    async with anyio.create_task_group() as starters:
        for _ in range(8):
            starters.start_soon(start)
    assert versions == [2] * 8
    assert await pets(empty_dsn) == ["Ada"]


async def test_takes_a_connection_and_leaves_it_open(connection: asyncpg.Connection) -> None:
    newest = len(load_migrations())
    assert await migrate(connection) == newest
    assert await schema_version(connection) == newest


async def test_schema_version_of_an_empty_database_is_0(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    assert await schema_version(connection) == 0
    await connection.close()


async def test_refuses_an_edited_migration_by_name(empty_dsn: str, directory: Path) -> None:
    await migrate(empty_dsn, directory)
    (directory / "0001_create_pets.sql").write_text(FIRST + " -- harmless?")
    with pytest.raises(DatabaseUnusable, match=r"0001_create_pets\.sql was edited after it had been applied"):
        await migrate(empty_dsn, directory)


async def test_refuses_a_renamed_migration(empty_dsn: str, directory: Path) -> None:
    await migrate(empty_dsn, directory)
    (directory / "0002_add_ada.sql").rename(directory / "0002_add_eve.sql")
    with pytest.raises(DatabaseUnusable, match=r"0002 of the database is 0002_add_ada\.sql and not 0002_add_eve\.sql"):
        await migrate(empty_dsn, directory)


async def test_refuses_a_newer_database_and_names_both_versions(empty_dsn: str, directory: Path) -> None:
    await migrate(empty_dsn, directory)
    (directory / "0002_add_ada.sql").unlink()
    with pytest.raises(DatabaseUnusable, match=r"schema 2 \(0002_add_ada\.sql\), newer than this PiCloud's 1 \(0001_create_pets\.sql\)"):
        await migrate(empty_dsn, directory)


async def test_a_failing_migration_is_named_and_leaves_nothing(empty_dsn: str, directory: Path) -> None:
    (directory / "0003_break_pets.sql").write_text("INSERT INTO pets VALUES ('Bob'); INSERT INTO pets VALUES ('Ada');")
    with pytest.raises(DatabaseUnusable, match=r"0003_break_pets\.sql failed and was rolled back: duplicate key"):
        await migrate(empty_dsn, directory)
    assert await pets(empty_dsn) == ["Ada"]
    (directory / "0003_break_pets.sql").write_text("INSERT INTO pets VALUES ('Bob');")
    assert await migrate(empty_dsn, directory) == 3


async def test_gives_up_on_a_table_that_is_locked(empty_dsn: str, directory: Path) -> None:
    await migrate(empty_dsn, directory)
    (directory / "0003_lock_pets.sql").write_text("SET LOCAL lock_timeout = '50ms'; ALTER TABLE pets ADD age int;")
    holder = await asyncpg.connect(empty_dsn)
    async with holder.transaction():
        await holder.execute("LOCK TABLE pets IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseUnusable, match="not free in time"):
            await migrate(empty_dsn, directory)
    await holder.close()
    assert await migrate(empty_dsn, directory) == 3


async def test_says_that_there_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="no connection to the database"):
        await migrate(f"postgresql://postgres:secret@/picloud?host={tmp_path}")


@pytest.mark.parametrize("name", ["create_pets.sql", "0001_pets.sql", "1_create_pets.sql", "0001_Create_Pets.sql", "0001-create-pets.sql"])
def test_refuses_misnamed_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"is not named NNNN_verb_object\.sql"):
        load_migrations(tmp_path)


def test_refuses_gaps_and_repeated_numbers(directory: Path) -> None:
    (directory / "0004_add_bob.sql").touch()
    with pytest.raises(ValueError, match="0003 is expected"):
        load_migrations(directory)
    (directory / "0004_add_bob.sql").rename(directory / "0002_add_bob.sql")
    with pytest.raises(ValueError, match="0003 is expected"):
        load_migrations(directory)
