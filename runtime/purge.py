"""What is left of deleted apps: their logs are closed, whatever else is stored of them is deleted, and `AppPurged` says that it is done.

Every step may be done again, and by two processes at once; so whoever dies on the way, what is not finished is begun again, at the next start at the latest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import anyio
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.apps import AppDeleted, AppPurged, app_stream
from domain.clock import Clock
from domain.errors import Throttled
from domain.events import Metadata, Recorded
from domain.ids import NIL_APP
from domain.ports import Appender, Reader
from domain.statements import load_sql
from domain.units import Change, Record, Unit
from runtime.maintenance import Job

_SQL: Final = load_sql("runtime", "purge.sql")
ROWS_AT_ONCE: Final = 1000
_LOOK_AGAIN_S: Final = 1.0
"""While something is unfinished: because of a fault, or because another process is at it, which may die."""

log = structlog.get_logger(__name__)

Alone = Callable[[str, Job], Awaitable[bool]]
"""`await alone(name, job)`: does the job unless another process is doing it, and says whether it has."""


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
        except Throttled as error:
            log.warning("purge_failed", error=error.detail)
        except Exception:  # whatever it is (a table that was swapped just now), the purge goes on
            log.exception("purge_failed")
        return False

    async def _unfinished(self) -> list[UUID]:
        return [row["deleted_id"] for row in await self._reader.fetch(_SQL["unfinished"])]

    async def _purge_all(self) -> None:
        for app_id in await self._unfinished():
            await self._purge(app_id)

    async def _purge(self, app_id: UUID) -> None:
        await self._log.close_app(app_id)
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
