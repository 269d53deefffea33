"""Whether an app may still do what it is about to: quotas of a day (UTC), and of storage. Asked before anything is run or written.

Where nothing is bounded nothing is asked. Figures of other processes are about a second old, so that together they may let a little more pass.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.bounds import UNBOUNDED, Bounds
from domain.clock import Clock
from domain.errors import QuotaExceeded, StorageFull
from runtime.directory import Directory
from runtime.limits.storage import Storage
from runtime.limits.usage import Usage
from runtime.services import rfc3339

_DAYS_KEPT: Final = 4096


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """What of a quota is used; `limit` None: it is not bounded."""

    used: int
    limit: int | None


class Quotas:
    """The quotas of all apps."""

    def __init__(self, directory: Directory, usage: Usage, storage: Storage, log: PgLog, clock: Clock) -> None:
        self.usage = usage
        self.storage = storage
        self._directory = directory
        self._log = log
        self._clock = clock
        self._midnights: dict[UUID, tuple[date, int]] = {}

    async def admit_request(self, app_id: UUID, limit: int) -> int:
        """Let a request pass where so many are allowed in a day: how many are left after it. Raises QuotaExceeded."""
        used = (await self.usage.today(app_id)).requests
        self._check("requests_per_day", used, limit)
        return limit - used - 1

    async def admit_run(self, app_id: UUID, bounds: Bounds) -> None:
        """Let an execution begin. Raises QuotaExceeded."""
        limit = bounds.quotas.executions_per_day
        if limit is not None:
            self._check("executions_per_day", (await self.usage.today(app_id)).executions, limit)
        await self._admit_events(app_id, bounds)

    async def is_used_up(self, app_id: UUID) -> bool:
        """Whether an app's executions have to wait for tomorrow."""
        try:
            await self.admit_run(app_id, (await self._directory.view(app_id)).bounds)
        except QuotaExceeded:
            return True
        return False

    async def admit_write(self, app_id: UUID, size: int = 0) -> None:
        """Let a write of so many bytes pass that no script makes. Raises QuotaExceeded, StorageFull."""
        bounds = (await self._directory.view(app_id)).bounds
        if bounds is not UNBOUNDED:
            await self._admit_events(app_id, bounds)
            await self.admit_bytes(app_id, bounds, size)

    async def admit_bytes(self, app_id: UUID, bounds: Bounds, size: int) -> None:
        """Let so many bytes be stored. Raises StorageFull."""
        limit = bounds.quotas.storage_bytes
        if limit is not None and not await self.storage.has_room(app_id, size, limit):
            raise StorageFull(f"the app may store {limit} bytes, and has no room for {size} more", quota="storage_bytes", limit=limit)

    async def events_today(self, app_id: UUID) -> int:
        """How many events were appended to an app's log since midnight, by the positions of its ends."""
        today = self._clock().date()
        known = self._midnights.get(app_id)
        if known is None or known[0] != today:
            before = await self._log.position_at(app_id, _midnight(today) - timedelta(microseconds=1))
            if len(self._midnights) >= _DAYS_KEPT:
                self._midnights.clear()
            known = self._midnights[app_id] = (today, before)
        head = self._log.wakeups.position(app_id) or await self._log.head(app_id)
        return max(0, head - known[1])

    def resets_at(self) -> datetime:
        """The next midnight."""
        return _midnight(self._clock().date() + timedelta(days=1))

    async def _admit_events(self, app_id: UUID, bounds: Bounds) -> None:
        limit = bounds.quotas.events_per_day
        if limit is not None:
            self._check("events_per_day", await self.events_today(app_id), limit)

    def _check(self, quota: str, used: int, limit: int) -> None:
        if used >= limit:
            resets_at = self.resets_at()
            raise QuotaExceeded(
                f"{quota}: all {limit} are used up until {rfc3339(resets_at)}",
                retry_after_s=(resets_at - self._clock()).total_seconds(),
                quota=quota,
                limit=limit,
                resets_at=rfc3339(resets_at),
            )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
