"""Databases for tests: one server a run, one prepared template, one clone of it for each test that asks."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from adapters.postgres.embedded import open_embedded
from runtime.database import prepare_database

TEMPLATE = "template_picloud"


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A server for this run, with the production settings; its own database is nobody's."""
    with tempfile.TemporaryDirectory(prefix="picloud-tests-") as directory, open_embedded(Path(directory)) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def template(server_dsn: str) -> str:
    """The name of a database with migrations and projections that `dsn` clones. Nobody connects to it."""
    await _execute(server_dsn, f"CREATE DATABASE {TEMPLATE}")
    await prepare_database(with_database(server_dsn, TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A database of this test's own with the whole schema; whoever is still connected at the end is thrown out."""
    async with _database(server_dsn, f"TEMPLATE {template}") as own:
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


@asynccontextmanager
async def _database(server_dsn: str, options: str = "") -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await _execute(server_dsn, f"CREATE DATABASE {name} {options}")
    try:
        yield with_database(server_dsn, name)
    finally:
        await _execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
