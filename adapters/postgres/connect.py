"""Connections: opened one way, so that every statement of PiCloud runs under the same settings, and errors told apart by whose fault they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from domain.errors import Unavailable

STATEMENT_TIMEOUT_S: Final = 15.0
CONNECT_TIMEOUT_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = STATEMENT_TIMEOUT_S + 5.0
"""The server ends a statement first; this is for a server that has vanished without a word."""

_SERVER_SETTINGS: Final = {
    "application_name": "picloud",
    "plan_cache_mode": "force_generic_plan",
    # A generic plan that was made while a table was empty would scan it whole until the next ANALYZE; every hot statement of ours has its index.
    "enable_seqscan": "off",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s",
    "idle_in_transaction_session_timeout": "10s",
}
LOST: Final = (
    OSError,
    EOFError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
"""What asyncpg raises when a connection is gone, does not answer (TimeoutError is an OSError), or the server is starting or stopping.

InternalClientError is what it says between the server's farewell and the end of the connection.
"""

_SERVER_CLASSES: Final = frozenset({"08", "25", "40", "53", "55", "57", "58"})


async def connect(dsn: str, **settings: str) -> asyncpg.Connection:
    """Open one connection; `settings` override the session settings that all of ours share.

    With a `statement_timeout` of its own it waits for answers for ever.
    """
    return await asyncpg.connect(
        dsn,
        server_settings={**_SERVER_SETTINGS, **settings},
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=None if "statement_timeout" in settings else _ANSWER_TIMEOUT_S,
        # Our texts are few but may be long, and each is wanted for as long as the connection lives.
        statement_cache_size=512,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=0,
    )


@asynccontextmanager
async def open_pool(dsn: str, max_size: int, **settings: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool of connections outside the writer's; `settings` override the shared session settings. Lost connections are replaced by the pool."""
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=max_size,
        server_settings={**_SERVER_SETTINGS, **settings},
        max_inactive_connection_lifetime=300,
        reset=_keep,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=_ANSWER_TIMEOUT_S,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout=5)
        except TimeoutError:
            pool.terminate()


async def _keep(connection: asyncpg.Connection) -> None:
    """Nothing to reset: our statements leave no session state behind, and asyncpg's own reset would cost every read a second round trip."""
    del connection


def is_servers_fault(error: asyncpg.PostgresError) -> bool:
    """Whether a statement failed for what the server is going through (locks, shutdown, disk, memory, timeouts), so that the same one may pass later."""
    return (error.sqlstate or "")[:2] in _SERVER_CLASSES


def unavailable(error: BaseException) -> Unavailable:
    """The error that callers see when the database is not there."""
    return Unavailable(f"the database is not available ({type(error).__name__})", retry_after_s=1.0)
