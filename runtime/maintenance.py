"""The periodic jobs: APScheduler says when, an advisory lock lets one process at a time do each, and what shrinks a read model does it by an event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID
from zlib import crc32

import asyncpg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from uuid_utils.compat import uuid7

from adapters.postgres.connect import LOST
from domain.clock import Clock
from domain.errors import PiCloudError
from domain.events import Metadata
from domain.kv import ExpireKey
from domain.ports import Appender, Reader
from domain.retention import Retained, RetentionApplied, retention_stream
from domain.statements import load_sql
from domain.units import Change, Effect, Record, Unit
from projections.kv.live import due_entries
from runtime.records import Records
from runtime.settings import Retention

_SQL: Final = load_sql("runtime", "maintenance.sql")
_SWEEP_AT_ONCE: Final = 500
_RETENTION_EVERY_S: Final = 3600

log = structlog.get_logger(__name__)

Job = Callable[[], Awaitable[None]]
Alone = Callable[[str, Job], Awaitable[bool]]
"""`await alone(name, job)`: does the job unless another process is doing it, and says whether it has."""


class Maintenance:
    """Sweeps expired keys and applies retention."""

    def __init__(self, store: Appender, reader: Reader, records: Records, retention: Retention, clock: Clock) -> None:
        self._store = store
        self._reader = reader
        self._records = records
        self._retention = retention
        self._clock = clock

    async def sweep_expired(self) -> None:
        """Append `KvExpired` for every entry whose time is up, oldest first, until none is left."""
        while True:
            due = await due_entries(self._reader, self._clock(), _SWEEP_AT_ONCE)
            by_app: dict[UUID, list[Change]] = {}
            for row in due:
                by_app.setdefault(row["app_id"], []).append(Change(ExpireKey(collection=row["collection"], key=row["key"])))
            appended = 0
            for app_id, changes in by_app.items():
                appended += await self._append(app_id, changes)
            # Nothing appended: what is due belongs to closed logs, or another process has just swept it.
            if len(due) < _SWEEP_AT_ONCE or not appended:
                return

    async def retain(self) -> None:
        """Drop old finished rows of the read models that grow, and old execution records."""
        await self._records.retain(self._retention.executions_days)
        days: tuple[tuple[Retained, float], ...] = (
            ("executions", self._retention.executions_days),
            ("dead_letters", self._retention.dead_letters_days),
            ("abandoned", self._retention.abandoned_days),
        )
        for projection, keep in days:
            before = self._clock() - timedelta(days=keep)
            for row in await self._reader.fetch(_SQL[f"old_{projection}"], before):
                event = RetentionApplied(projection=projection, before=before)
                await self._append(row["app_id"], [Change(Record(name=retention_stream(projection), event=event))])

    async def _append(self, app_id: UUID, changes: list[Change]) -> int:
        """One unit; a log that refuses it (closed meanwhile) must not end the sweep of the others."""
        effects: list[Effect] = [change.effect for change in changes]
        unit = Unit(app_id=app_id, metadata=Metadata(unit_id=uuid7()), now=self._clock(), changes=tuple(changes))
        try:
            return len(await self._store.append(unit))
        except PiCloudError as error:
            log.warning("maintenance_refused", app_id=str(app_id), effects=len(effects), code=error.code)
            return 0


@asynccontextmanager
async def scheduled(locks: asyncpg.Pool, jobs: dict[str, tuple[Job, float]]) -> AsyncIterator[None]:
    """Run each named job every so many seconds, one process at a time, while the context lasts."""
    scheduler = AsyncIOScheduler(timezone="UTC")
    for name, (job, every_s) in jobs.items():
        trigger = IntervalTrigger(seconds=every_s, timezone="UTC")
        # At once for the first time: a process that is restarted more often than hourly would never apply retention.
        at_once = datetime.now(UTC)
        scheduler.add_job(_alone, trigger, args=(locks, name, job), id=name, max_instances=1, coalesce=True, misfire_grace_time=None, next_run_time=at_once)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


def retention_job(maintenance: Maintenance) -> tuple[Job, float]:
    """Retention, hourly."""
    return maintenance.retain, _RETENTION_EVERY_S


async def alone(locks: asyncpg.Pool, name: str, job: Job) -> bool:
    """Do a job unless another process is doing it; says whether it has.

    `locks` is a pool of one connection, whose session has all such locks of this process. It is taken for a statement and not for as long as the job lasts:
    jobs that each held a connection and needed another one of the same pool could wait for each other for ever. The locks end with the session, so a dead
    process holds nothing up.
    """
    key = crc32(name.encode())
    if not await locks.fetchval(_SQL["try_lock"], key):
        return False
    try:
        await job()
    finally:
        await locks.fetchval(_SQL["unlock"], key)
    return True


async def _alone(locks: asyncpg.Pool, name: str, job: Job) -> None:
    try:
        await alone(locks, name, job)
    except (PiCloudError, asyncpg.PostgresError, *LOST) as error:
        log.warning("job_failed", job=name, error=str(error))
    except Exception:
        log.exception("job_broken", job=name)
