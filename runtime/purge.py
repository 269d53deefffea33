"""What is left of deleted apps: their logs are closed, whatever else is stored of them is deleted, and `AppPurged` says that it is done.

Every step may be done again, and by two processes at once; so whoever dies on the way, what is not finished is begun again, at the next start at the latest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import anyio
import asyncpg
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.connect import LOST
from adapters.postgres.log import PgLog
from domain.apps import AppDeleted, AppPurged, app_stream
from domain.clock import Clock
from domain.errors import Throttled
from domain.events import Metadata, Recorded
from domain.ids import NIL_APP
from domain.ports import Appender, Reader
from domain.statements import load_sql
from domain.units import Change, Record, Unit
from runtime.maintenance import Alone

_SQL: Final = load_sql("runtime", "purge.sql")
ROWS_AT_ONCE: Final = 1000
_AT_ONCE: Final = 2
"""A small app does not wait for a large one, and most connections of the background are left to others."""
_LOOK_AGAIN_S: Final = 1.0
"""While something is unfinished: because of a fault, or because another process is at it, which may die."""

log = structlog.get_logger(__name__)


class Purge:
    """Purges deleted apps. Woken by their deletion, wherever that happens, and by its own start."""

    def __init__(self, events: PgLog, appender: Appender, reader: Reader, alone: Alone, claim_blobs: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        self._log = events
        self._appender = appender
        self._reader = reader
        self._alone = alone
        self._claim_blobs = claim_blobs
        self._clock = clock
        self._wake = anyio.Event()
        self._places = anyio.Semaphore(_AT_ONCE)

    def committed(self, events: Sequence[Recorded], counts: Mapping[str, int]) -> None:
        """A commit of this process."""
        del counts
        if any(isinstance(recorded.event, AppDeleted) for recorded in events):
            self._wake.set()

    def moved(self, app_id: UUID, position: int) -> None:
        """Another process has appended something."""
        del position
        if app_id == NIL_APP:
            self._wake.set()

    async def run(self) -> None:
        """Purge until cancelled."""
        while True:
            self._wake = anyio.Event()
            is_done = await self._round()
            with anyio.move_on_after(None if is_done else _LOOK_AGAIN_S):
                await self._wake.wait()

    async def _round(self) -> bool:
        """Purge what there is; whether nothing is left."""
        try:
            if not await self._unfinished():
                return True
            await self._alone("purge", self._purge_all)
            return not await self._unfinished()
        except Exception as error:  # noqa: BLE001  # whatever it is, the purge goes on
            _tell(error)
            return False

    async def _unfinished(self) -> list[UUID]:
        return [row["deleted_id"] for row in await self._reader.fetch(_SQL["unfinished"])]

    async def _purge_all(self) -> None:
        """Purge each app, also when another one cannot be; but first see to it that nothing happens in any of them."""
        unfinished = await self._unfinished()
        for app_id in unfinished:
            await self._log.close_app(app_id)
        async with anyio.create_task_group() as tasks:
            for app_id in unfinished:
                tasks.start_soon(self._try_to_purge, app_id)

    async def _try_to_purge(self, app_id: UUID) -> None:
        async with self._places:
            try:
                await self._purge(app_id)
            except Exception as error:  # noqa: BLE001  # tried again in the next round
                _tell(error, app_id=str(app_id))

    async def _purge(self, app_id: UUID) -> None:
        rows = 0
        # Again until nothing is found: a run that was in progress may have left its record meanwhile.
        while gone := await self._delete_rows(app_id):
            rows += gone
        await self._log.note_dropped(app_id)
        unit = Unit(
            app_id=NIL_APP,
            metadata=Metadata(unit_id=uuid7()),
            now=self._clock(),
            changes=(Change(Record(name=app_stream(app_id), event=AppPurged(app_id=app_id))),),
            idempotency_key=f"purged:{app_id}",
        )
        await self._appender.append(unit)
        log.info("app_purged", app_id=str(app_id), rows=rows)

    async def _delete_rows(self, app_id: UUID) -> int:
        """Delete the rows of all tables, some in each transaction; how many there were."""
        deleted = 0
        for table in await self._reader.fetch(_SQL["tables"]):
            if table["names_blobs"]:
                await self._claim_blobs()  # while something is named still: a store that is nobody's is not swept
            while gone := (await self._reader.fetch(_SQL["delete"], table["name"], app_id, ROWS_AT_ONCE))[0]["gone"]:
                deleted += gone
        return deleted


def _tell(error: Exception, **where: str) -> None:
    """A database or a store that is away, or a table that a rebuild has swapped just now, is no fault."""
    if isinstance(error, (Throttled, asyncpg.PostgresError, *LOST)):
        log.warning("purge_delayed", error=str(error), **where)
    else:
        log.error("purge_failed", exc_info=error, **where)
