"""The ticks of schedules that are due.

Woken by the next due time, and where a trigger changes; by nothing else that ticks faster than `_LOOK_AGAIN_S`. Processes with the role take turns by an
advisory lock, so that they do not do the same work; that there is one tick for each time is not its doing, but that of the version which a tick expects of
its stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import anyio
import structlog
from anyio.abc import TaskGroup
from uuid_utils.compat import uuid7

from domain.clock import Clock
from domain.cron import Ticked, TickSkipped, TickSkipReason, cron_stream
from domain.errors import Invalid, LogClosed, OutcomeUnknown, PiCloudError, Throttled, VersionConflict
from domain.events import Metadata, Recorded
from domain.ports import Appender, Reader
from domain.triggers import trigger_stream
from domain.units import ABSENT, Change, Read, Record, Unit
from projections.schedules.reads import DueSchedule, due_schedules
from projections.schedules.schedules import SCHEDULE_MOVED
from runtime.cron.schedule import schedule_of
from runtime.maintenance import Alone

AT_ONCE: Final = 500
_TOGETHER: Final = 50
_LOOK_AGAIN_S: Final = 30.0
_PAUSE_S: Final = 0.2
_PATIENCE_S: Final = 0.5
_FOREIGN_S: Final = 0.25
"""Commits of other processes are looked at together: they may have changed a trigger."""

log = structlog.get_logger(__name__)


class CronScheduler:
    """Appends the ticks of all apps."""

    def __init__(self, reader: Reader, appender: Appender, alone: Alone, clock: Clock) -> None:
        self._reader = reader
        self._appender = appender
        self._alone = alone
        self._clock = clock
        self._wake = anyio.Event()
        self._moved = anyio.Event()
        self._busy: Counter[UUID] = Counter()
        """Apps whose ticks are being appended."""

    def committed(self, events: Sequence[Recorded], counts: Mapping[str, int]) -> None:
        """A commit of this process: look at once when it has moved schedules."""
        del events
        if counts.get(SCHEDULE_MOVED):
            self.wake()

    def wake(self) -> None:
        """Look for due schedules now."""
        self._wake.set()

    def moved(self, app_id: UUID, position: int) -> None:
        """Another process has appended something."""
        del app_id, position
        self._moved.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_others)
            while True:
                self._wake = anyio.Event()
                try:
                    idle_s = await self._round(tasks)
                except Throttled as error:
                    log.warning("cron_round_failed", error=error.detail)
                    idle_s = _PAUSE_S
                except Exception:  # whatever it is, the schedules go on
                    log.exception("cron_round_failed")
                    idle_s = _PAUSE_S
                with anyio.move_on_after(min(idle_s, _LOOK_AGAIN_S)):
                    await self._wake.wait()

    async def _watch_others(self) -> None:
        while True:
            await self._moved.wait()
            self._moved = anyio.Event()
            self._wake.set()
            await anyio.sleep(_FOREIGN_S)

    async def _round(self, tasks: TaskGroup) -> float:
        """Tick what is due; returns in how many seconds to look again."""
        due, following_at = await due_schedules(self._reader, self._clock(), 1, self._busy)
        if due:
            ticked = 0

            async def tick() -> None:
                nonlocal ticked
                ticked = await self._tick_all(tasks)

            # Nothing ticked: another process is at it, or was faster, or what is due is refused.
            return 0.0 if await self._alone("cron", tick) and ticked else _PAUSE_S
        return _LOOK_AGAIN_S if following_at is None else max((following_at - self._clock()).total_seconds(), 0.0)

    async def _tick_all(self, tasks: TaskGroup) -> int:
        """Tick batch after batch until nothing is due; returns how many there were."""
        ticked = 0
        while True:
            now = self._clock()
            due, _ = await due_schedules(self._reader, now, AT_ONCE, self._busy)
            before = ticked
            ticked += await self._tick(tasks, _by_app(due), now)
            if len(due) < AT_ONCE or ticked == before:
                return ticked

    async def _tick(self, tasks: TaskGroup, groups: Sequence[list[DueSchedule]], now: datetime) -> int:
        """Append the ticks of each app beside those of the others; returns how many there were.

        An app that takes longer than `_PATIENCE_S` (somebody holds its head) is waited for by nobody else: it stays busy until it is done.
        """
        ticked, left = 0, len(groups)
        all_done = anyio.Event()

        async def append(together: list[DueSchedule]) -> None:
            nonlocal ticked, left
            ticked += await self._append_logged(together, now)
            left -= 1
            if not left:
                all_done.set()
                self._wake.set()

        for together in groups:
            self._busy[together[0].app_id] += 1
            tasks.start_soon(append, together)
        if groups:
            with anyio.move_on_after(_PATIENCE_S):
                await all_done.wait()
        return ticked

    async def _append_logged(self, together: list[DueSchedule], now: datetime) -> int:
        """As `_append`; what nobody foresaw is logged, and those schedules stay due."""
        app_id = together[0].app_id
        try:
            return await self._append(together, now)
        except Throttled as error:
            log.warning("ticks_failed", app_id=str(app_id), error=error.detail)
        except Exception:
            log.exception("ticks_failed", app_id=str(app_id))
        finally:
            self._busy[app_id] -= 1
            if not self._busy[app_id]:
                del self._busy[app_id]
        return 0

    async def _append(self, together: list[DueSchedule], now: datetime) -> int:
        """Ticks of one app in one unit, or, when one of its schedules does not stand any more as it was read, each in its own. Returns how many there were."""
        try:
            await self._appender.append(_unit(together, now))
        except LogClosed:
            return 0
        except PiCloudError as error:
            if len(together) > 1 and not isinstance(error, Throttled | OutcomeUnknown):
                return sum([await self._append([due], now) for due in together])
            if not isinstance(error, VersionConflict):
                log.warning("tick_refused", app_id=str(together[0].app_id), trigger_id=str(together[0].trigger_id), code=error.code)
            return 0
        return len(together)


def _by_app(due: Sequence[DueSchedule]) -> list[list[DueSchedule]]:
    """At most `_TOGETHER` of one app."""
    apps: dict[UUID, list[DueSchedule]] = {}
    for schedule in due:
        apps.setdefault(schedule.app_id, []).append(schedule)
    return [found[start : start + _TOGETHER] for found in apps.values() for start in range(0, len(found), _TOGETHER)]


def _unit(together: Sequence[DueSchedule], now: datetime) -> Unit:
    # No correlation: they have nothing to do with one another, so each run is the root of its own.
    return Unit(
        app_id=together[0].app_id,
        metadata=Metadata(unit_id=uuid7(), actor="system"),
        now=now,
        changes=tuple(Change(Record(name=cron_stream(due.trigger_id), event=_tick(due, now)), due.tick_version or ABSENT) for due in together),
        reads=tuple(Read(trigger_stream(due.trigger_id), due.trigger_version) for due in together),
    )


def _tick(due: DueSchedule, now: datetime) -> Ticked | TickSkipped:
    """What has become of a schedule by now: one tick, for the latest of the times that have passed."""
    try:
        scheduled_at, next_due_at = _times(due.schedule, due.timezone, due.next_due_at, now)
    except Invalid as error:
        log.warning("schedule_unreadable", app_id=str(due.app_id), trigger_id=str(due.trigger_id), error=error.detail)
        return _skipped(due, "no_such_timezone", due.next_due_at, now, None)
    if due.is_busy and due.overlap == "skip":
        return _skipped(due, "overlap", scheduled_at, now, next_due_at)
    return Ticked(
        trigger_id=due.trigger_id,
        script_id=due.script_id,
        execution_id=uuid7(),
        schedule=due.schedule,
        timezone=due.timezone,
        scheduled_at=scheduled_at,
        fired_at=now,
        next_due_at=next_due_at,
    )


def _skipped(due: DueSchedule, reason: TickSkipReason, scheduled_at: datetime, now: datetime, next_due_at: datetime | None) -> TickSkipped:
    return TickSkipped(
        trigger_id=due.trigger_id,
        reason=reason,
        schedule=due.schedule,
        timezone=due.timezone,
        scheduled_at=scheduled_at,
        fired_at=now,
        next_due_at=next_due_at,
    )


@lru_cache(maxsize=1024)
def _times(schedule: str, timezone: str, due_at: datetime, now: datetime) -> tuple[datetime, datetime | None]:
    """The latest due time up to now, and the next. Kept, because schedules that are due together are often alike."""
    return schedule_of(schedule, timezone).latest_due(due_at, now)
