"""The connection that rebuilds or verifies: one at a time in a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import asyncpg

from adapters.postgres.connect import connect

_LOCK: Final = 0x70726F6A  # "proj"
_CLOSE_S: Final = 5.0


@asynccontextmanager
async def open_session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that holds the lock of rebuilds and verifications for as long as it lives.

    The lock is the session's, because a rebuild is many transactions; with the connection goes the lock, and with it the right to go on. Waits for another
    holder.
    """
    timeouts = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "0"}
    connection = await connect(dsn, **timeouts, application_name="picloud-projections")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        yield connection
    finally:
        with anyio.move_on_after(_CLOSE_S, shield=True):
            await connection.close()


async def live_schema(connection: asyncpg.Connection) -> str:
    """The schema that holds the live tables, quoted: the one in which an unqualified CREATE TABLE makes them."""
    return str(await connection.fetchval("SELECT quote_ident(current_schema())"))


def comment_of(name: str) -> str:
    """The comment by which a projection's tables are found again, also by a version of it that has others."""
    return f"projection {name}"
