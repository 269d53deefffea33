"""Connections: opened one way, so that every statement of PiCloud runs under the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from domain.errors import Unavailable

_SERVER_SETTINGS: Final = {
    "application_name": "picloud",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
}
LOST: Final = (OSError, EOFError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError)
"""What asyncpg raises when a connection is gone or the server is starting or stopping."""


async def connect(dsn: str, **settings: str) -> asyncpg.Connection:
    """Open one connection; `settings` override the session settings that all of ours share."""
    return await asyncpg.connect(dsn, server_settings={**_SERVER_SETTINGS, **settings})


@asynccontextmanager
async def open_pool(dsn: str, max_size: int) -> AsyncIterator[asyncpg.Pool]:
    """A pool for reads. Lost connections are replaced by the pool."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=max_size, server_settings=_SERVER_SETTINGS, max_inactive_connection_lifetime=300)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout=5)
        except TimeoutError:
            pool.terminate()


def unavailable(error: BaseException) -> Unavailable:
    """The error that callers see when the database is not there."""
    return Unavailable(f"the database is not available ({type(error).__name__})", retry_after_s=1.0)
