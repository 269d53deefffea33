"""The role of scripts' reads on a server of somebody's own, whose user may make roles, or may not."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
import structlog.testing

from adapters.postgres.app_readers import open_app_readers
from adapters.postgres.embedded import open_embedded
from adapters.postgres.projecting.app_views import ROLE
from runtime.database import prepare_database
from tests.adapters.test_app_readers import MINE, OTHER, fill
from tests.postgres import execute, with_database

pytestmark = pytest.mark.anyio


OWNERS = ("maker", "plain", "second")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="picloud-tests-") as directory, open_embedded(Path(directory)) as dsn:
        yield dsn


@pytest.fixture
async def fresh_server(server: str) -> AsyncIterator[str]:
    """A server on which nobody has made the role."""
    yield server
    for name in OWNERS:
        await execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    for name in (ROLE, *OWNERS):
        await execute(server, f"DROP ROLE IF EXISTS {name}")


async def owned_by(server_dsn: str, name: str, options: str) -> str:
    """The DSN of a database whose owner is no superuser, as that owner."""
    assert name in OWNERS
    await execute(server_dsn, f"CREATE USER {name} NOSUPERUSER {options}")
    await execute(server_dsn, f"CREATE DATABASE {name} OWNER {name}")
    dsn = with_database(server_dsn, name).replace("postgres@", f"{name}@")
    await prepare_database(dsn)
    connection = await asyncpg.connect(dsn)
    for app_id in (MINE, OTHER):
        await fill(connection, "kv_entries", app_id)
    await connection.close()
    return dsn


async def apps_seen(dsn: str) -> tuple[bool, list[UUID]]:
    """Whether reads are under the role, and whose rows a statement without an app finds."""
    async with open_app_readers(dsn, 1) as readers:
        rows = await readers(MINE).fetch("SELECT app_id FROM kv_entries")
        if readers.has_role:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await readers(MINE).fetch("SELECT * FROM public.kv_entries")
        return readers.has_role, [row["app_id"] for row in rows]


async def test_an_owner_who_may_make_roles_makes_it(fresh_server: str) -> None:
    dsn = await owned_by(fresh_server, "maker", "CREATEROLE")
    assert await apps_seen(dsn) == (True, [MINE])


async def test_an_owner_who_may_not_is_told_and_has_the_views(fresh_server: str) -> None:
    dsn = await owned_by(fresh_server, "plain", "NOCREATEROLE")
    with structlog.testing.capture_logs() as logs:
        assert await apps_seen(dsn) == (False, [MINE])
    (warning,) = [line for line in logs if line["event"] == "scripts_read_as_owner"]
    assert f"GRANT {ROLE}" in warning["remedy"]
    # An administrator does as he was told.
    await execute(fresh_server, f"CREATE ROLE {ROLE} NOLOGIN")
    await execute(fresh_server, f"GRANT {ROLE} TO plain")
    await prepare_database(dsn)
    assert await apps_seen(dsn) == (True, [MINE])


async def test_a_role_that_is_somebody_elses_is_not_taken(fresh_server: str) -> None:
    await owned_by(fresh_server, "maker", "CREATEROLE")
    dsn = await owned_by(fresh_server, "second", "CREATEROLE")
    assert await apps_seen(dsn) == (False, [MINE])
