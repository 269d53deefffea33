"""Reads of running scripts: on connections of their own, each of which sees the rows of one app at a time, through views that show no others.

A statement that forgot its `app_id`, or has another app's, finds nothing of that app. Where the server lets us, these connections also go on as a role that
can read the views and nothing else. To show a connection another app takes a round trip, so it is given to whoever next reads for the app that it shows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from uuid import UUID

import anyio
import asyncpg
import structlog

from adapters.postgres.connect import connect
from adapters.postgres.projecting.app_views import ROLE, SQL, may_become_role
from adapters.postgres.reader import translated
from domain.ports import Reader

_CLOSE_S: Final = 5.0
_STALE_S: Final = 300.0
"""A connection that was idle for so long may have been forgotten by something on the way."""

log = structlog.get_logger(__name__)


class _Seat:
    """A connection, the app that it shows and when it was last used."""

    __slots__ = ("app_id", "connection", "used_at")

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.app_id: UUID | None = None
        self.used_at = time.monotonic()

    @property
    def is_good(self) -> bool:
        return not self.connection.is_closed() and time.monotonic() - self.used_at < _STALE_S

    async def show(self, app_id: UUID) -> None:
        """Show an app's rows from here on."""
        if self.app_id != app_id:
            self.app_id = None  # until we know: this may be cut off
            # A simple query costs a third less than a prepared one with a parameter; a UUID has nothing in it to escape.
            await self.connection.execute(f"SET picloud.app = '{app_id}'")
            self.app_id = app_id


class AppReaders:
    """`readers(app_id)` reads that app's rows and no others. `has_role`: its connections can read nothing but the views."""

    def __init__(self, dsn: str, max_size: int) -> None:
        self.has_role = False
        self._dsn = dsn
        self._max_size = max_size
        self._room = asyncio.Semaphore(max_size)
        self._seats: set[_Seat] = set()
        self._idle: list[_Seat] = []
        self._opening = 0

    def __call__(self, app_id: UUID) -> Reader:
        """See `domain.ports.Readers`."""
        return _AppReader(self, app_id)

    async def begin(self) -> None:
        """Open the first connection and find out whether we may become the role."""
        with translated():
            seat = await self._connect()
            self.has_role = await may_become_role(seat.connection)
            await self._enter(seat)
            self._give(seat)

    async def fetch(self, app_id: UUID, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """The rows of a query, as the app sees them. Raises Unavailable when the database is away."""
        with translated():
            async with self._room:
                seat = self._take(app_id) or await self._open()
                try:
                    await seat.show(app_id)
                    return cast("Sequence[Mapping[str, Any]]", await seat.connection.fetch(sql, *args))
                finally:
                    # Also after a cancellation: asyncpg has the next statement wait until the server has ended this one.
                    self._give(seat)

    async def close(self) -> None:
        """Close what is open; who still reads is cut off."""
        with anyio.move_on_after(_CLOSE_S, shield=True):
            for seat in self._idle:
                await seat.connection.close()
        for seat in self._seats:
            seat.connection.terminate()

    def _take(self, app_id: UUID) -> _Seat | None:
        """An idle connection: one that shows this app, or none yet; else none while there may be more, else the one that was idle longest."""
        for seat in [seat for seat in self._idle if not seat.is_good]:
            self._idle.remove(seat)
            self._drop(seat)
        for shown in (app_id, None):
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index].app_id == shown:
                    return self._idle.pop(index)
        is_full = len(self._seats) + self._opening >= self._max_size
        return self._idle.pop(0) if is_full and self._idle else None

    def _give(self, seat: _Seat) -> None:
        seat.used_at = time.monotonic()
        if seat.connection.is_closed():
            self._drop(seat)
        else:
            self._idle.append(seat)

    def _drop(self, seat: _Seat) -> None:
        self._seats.discard(seat)
        seat.connection.terminate()

    async def _open(self) -> _Seat:
        """One connection more. Whoever comes here has a place in the room, so there are not too many."""
        seat = await self._connect()
        try:
            await self._enter(seat)
        except BaseException:
            self._drop(seat)
            raise
        return seat

    async def _connect(self) -> _Seat:
        self._opening += 1
        try:
            seat = _Seat(await connect(self._dsn, application_name="picloud-scripts"))
        finally:
            self._opening -= 1
        self._seats.add(seat)
        return seat

    async def _enter(self, seat: _Seat) -> None:
        """Go over to the views and the role: by a statement rather than by settings of the connection, which some poolers drop without a word."""
        await seat.connection.fetch(SQL["enter"], ROLE if self.has_role else "none")


class _AppReader:
    """The `Reader` port for one app."""

    def __init__(self, readers: AppReaders, app_id: UUID) -> None:
        self._readers = readers
        self._app_id = app_id

    async def fetch(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """See the port."""
        return await self._readers.fetch(self._app_id, sql, *args)


@asynccontextmanager
async def open_app_readers(dsn: str, max_size: int) -> AsyncIterator[AppReaders]:
    """Readers on at most so many connections, on a database that was prepared (`ensure_app_views`). Raises Unavailable when it is away."""
    readers = AppReaders(dsn, max_size)
    try:
        await readers.begin()
        if not readers.has_role:
            remedy = f"as a superuser: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO the user in DATABASE_URL; then start PiCloud again"
            log.warning("scripts_read_as_owner", meaning="scripts' reads are kept to their app by views, not by rights as well", remedy=remedy)
        yield readers
    finally:
        await readers.close()
