"""Reads of committed rows through the pool."""

from __future__ import annotations

from typing import Any

import asyncpg

from adapters.postgres.connect import LOST, unavailable


class PgReader:
    """The `Reader` port on asyncpg."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """The rows of a query. Raises Unavailable when the database is away."""
        try:
            return await self._pool.fetch(sql, *args)
        except LOST as error:
            raise unavailable(error) from error
