"""Reads of committed rows through the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import asyncpg

from adapters.postgres.connect import LOST, is_servers_fault, unavailable


class PgReader:
    """The `Reader` port on asyncpg."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """The rows of a query. Raises Unavailable when the database is away."""
        try:
            # Records are mappings in all but the stub.
            return cast("Sequence[Mapping[str, Any]]", await self._pool.fetch(sql, *args))
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            if is_servers_fault(error):
                raise unavailable(error) from error
            raise
