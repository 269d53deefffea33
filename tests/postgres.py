"""Databases for tests: one server for each process of a run, one prepared template, one clone of it for each test that asks.

What a crash of the machine would lose is lost with the run anyway, so this server waits for no disk and, where there is room, lives in memory. A test about
crashes starts a server of its own, as PiCloud does.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from adapters.postgres.embedded import open_embedded
from runtime.database import prepare_database

TEMPLATE: Final = "template_picloud"

_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 2 * 1024**3
_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "'256MB'"}


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A server for this process; its own database is nobody's."""
    with tempfile.TemporaryDirectory(prefix="picloud-tests-", dir=_fast_directory()) as directory, open_embedded(Path(directory)) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def template(server_dsn: str) -> str:
    """The name of a database with migrations and projections that `dsn` clones. Nobody connects to it."""
    for name, value in _SETTINGS.items():
        await execute(server_dsn, f"ALTER SYSTEM SET {name} = {value}")
    await execute(server_dsn, "SELECT pg_reload_conf()")
    await execute(server_dsn, f"CREATE DATABASE {TEMPLATE}")
    await prepare_database(with_database(server_dsn, TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A database of this test's own with the whole schema; whoever is still connected at the end is thrown out."""
    async with cloned(server_dsn, template) as own:
        yield own


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """A database of this test's own without any schema."""
    async with _database(server_dsn) as own:
        yield own


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's own prepared database."""
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


def with_database(dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def cloned(server_dsn: str, template: str) -> AbstractAsyncContextManager[str]:
    """A copy of a database that nobody is connected to. Copying its files is quicker than logging its pages, above all in memory."""
    return _database(server_dsn, f"TEMPLATE {template} STRATEGY FILE_COPY")


@asynccontextmanager
async def _database(server_dsn: str, options: str = "") -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await execute(server_dsn, f"CREATE DATABASE {name} {options}")
    try:
        yield with_database(server_dsn, name)
    finally:
        await execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def execute(dsn: str, statement: str) -> None:
    """Execute one statement on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _fast_directory() -> Path | None:
    """Where files stay in memory; None, which is the usual place, where that is missing or small (in containers it often is)."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES else None
