"""Reads of committed rows through the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import asyncpg

from adapters.postgres.connect import LOST, is_servers_fault, unavailable
from domain.ports import Reader


class PgReader:
    """The `Reader` port on asyncpg."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """The rows of a query. Raises Unavailable when the database is away."""
        with translated():
            # Records are mappings in all but the stub.
            return cast("Sequence[Mapping[str, Any]]", await self._pool.fetch(sql, *args))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """A reader that sees the database as it is now, whatever is committed meanwhile. It holds a connection, so nobody slow may be waited for."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                yield _Snapshot(connection)


class _Snapshot:
    """The `Reader` port within one transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """See the port."""
        with translated():
            return cast("Sequence[Mapping[str, Any]]", await self._connection.fetch(sql, *args))


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except LOST as error:
        raise unavailable(error) from error
    except asyncpg.PostgresError as error:
        if is_servers_fault(error):
            raise unavailable(error) from error
        raise
