"""Which schedules are due, and how those of an app stand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.cron import Overlap, TickSkipReason
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.schedules", "reads.sql")


class DueSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule whose time has come, at which versions of its trigger and of its stream of ticks; `is_busy`: a run of its trigger is queued or running."""

    app_id: UUID
    trigger_id: UUID
    trigger_version: int
    tick_version: int
    script_id: UUID
    schedule: str
    timezone: str
    overlap: Overlap
    next_due_at: datetime
    is_busy: bool


class StandingSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a trigger is due next (None while it is disabled), and what its last time came to: an execution, or a reason why there was none."""

    trigger_id: UUID
    tick_version: int
    schedule: str
    timezone: str
    next_due_at: datetime | None
    last_scheduled_at: datetime | None
    last_fired_at: datetime | None
    last_execution_id: UUID | None
    last_skip_reason: TickSkipReason | None


async def due_schedules(reader: Reader, now: datetime, limit: int, busy: Collection[UUID] = ()) -> tuple[list[DueSchedule], datetime | None]:
    """Up to `limit` schedules that are due, longest due first, without those of `busy` apps; and when the first that is not due will be, if any."""
    rows = await reader.fetch(_SQL["due"], now, limit, list(busy))
    due = [DueSchedule(**{name: row[name] for name in DueSchedule.__struct_fields__}) for row in rows if row["trigger_id"] is not None]
    return due, rows[0]["following_at"]


async def read_schedules(reader: Reader, app_id: UUID, trigger_ids: Sequence[UUID]) -> dict[UUID, StandingSchedule]:
    """The schedules of those triggers that have one."""
    rows = await reader.fetch(_SQL["schedules"], app_id, trigger_ids)
    return {row["trigger_id"]: StandingSchedule(**row) for row in rows}
