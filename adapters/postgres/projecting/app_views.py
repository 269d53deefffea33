"""The views through which scripts' reads see the tables, and the role that can read nothing else.

A view has its table's name and shows the rows of the app that the session names in `picloud.app`: none when it names none. A table of a projection has one if
it has an `app_id`. Views instead of policies, because a policy keeps documents from being found by their index (docs/decisions/0008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from adapters.postgres.connect import connect
from adapters.postgres.projecting.session import live_schema, open_session
from domain.statements import load_sql

SCHEMA: Final = "picloud_scripts"
ROLE: Final = "picloud_scripts"
SQL: Final = load_sql("adapters.postgres.projecting", "app_views.sql")

_FINE_MEMBERSHIPS: Final = 16
"""The server's version from which being a member of a role and being able to become it are two things."""

# In brackets and compared with TRUE, so that it is a filter and nothing else: the planner would look up an app's rows by it, however many, where it should
# look up a document's. The sub-select is run once for a statement.
_VIEW: Final = "CREATE VIEW {view} AS SELECT * FROM {table} WHERE (app_id = (SELECT current_setting('picloud.app', true)::uuid)) IS TRUE"


async def ensure_app_views(dsn: str) -> None:
    """Make the role if we may, and whatever is missing of the views and of its rights. Concurrent starters do it once between them."""
    connection = await connect(dsn)
    try:
        await _ensure_role(connection)
        lacking = await _lacking(connection, await live_schema(connection))
    finally:
        await connection.close()
    if lacking:
        async with open_session(dsn) as session, session.transaction():
            await show_tables(session, await live_schema(session))


async def may_become_role(connection: asyncpg.Connection) -> bool:
    """Whether this connection can go on as the role."""
    return (await _role(connection))["may_become"] is True


async def shown_tables(connection: asyncpg.Connection, live: str) -> list[str]:
    """The tables that have a view."""
    return [row["name"] for row in await connection.fetch(SQL["tables"], live) if row["has_view"]]


async def hide_tables(connection: asyncpg.Connection, tables: Sequence[str]) -> None:
    """Drop the views of tables that are to be dropped."""
    for table in tables:
        await connection.execute(f"DROP VIEW {SCHEMA}.{table}")


async def show_tables(connection: asyncpg.Connection, live: str) -> None:
    """Make the views that are missing or have not all columns, and let the role read them, within the caller's transaction."""
    is_there = (await _role(connection))["is_there"]
    for table in await _lacking(connection, live):
        view = f"{SCHEMA}.{table}"
        await connection.execute(f"DROP VIEW IF EXISTS {view}; {_VIEW.format(view=view, table=f'{live}.{table}')}")
        if is_there:
            await connection.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLE}; GRANT SELECT ON {view} TO {ROLE}")


async def _lacking(connection: asyncpg.Connection, live: str) -> list[str]:
    return [row["name"] for row in await connection.fetch(SQL["tables"], live) if not (row["is_whole"] and row["is_granted"])]


async def _ensure_role(connection: asyncpg.Connection) -> None:
    """Make the role, and ourselves a member, as far as the server lets us; what it does not is for the database's administrator."""
    found = await _role(connection)
    try:
        if not found["is_there"]:
            await connection.execute(SQL["create_role"])
        if not (await _role(connection))["may_become"]:
            await connection.execute(SQL["join_role" if _has_fine_memberships(connection) else "join_role_15"])
    except asyncpg.InsufficientPrivilegeError:
        return None  # `open_app_readers` says so where it matters
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return await _ensure_role(connection)  # another starter on this server, perhaps of another database, was quicker


async def _role(connection: asyncpg.Connection) -> asyncpg.Record:
    found = await connection.fetchrow(SQL["role"], "SET" if _has_fine_memberships(connection) else "MEMBER")
    assert found is not None
    return found


def _has_fine_memberships(connection: asyncpg.Connection) -> bool:
    return connection.get_server_version().major >= _FINE_MEMBERSHIPS
