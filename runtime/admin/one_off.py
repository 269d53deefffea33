"""Runs that are asked for once: at a time, or at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from domain.events import Recorded
from domain.ports import Reader
from domain.schedule import CancelExecution, ScheduleExecution, check_payload
from domain.units import Change
from runtime.admin.endpoints import require_endpoint
from runtime.admin.writing import Acting, AdminWriter, retried


class OneOffRuns:
    """Asked for, and taken back."""

    def __init__(self, reader: Reader, writer: AdminWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def schedule(self, app_id: UUID, script_id: UUID, run_at: datetime, payload: Any, acting: Acting) -> tuple[UUID, Recorded]:
        """Queue a run that acts as `acting`, and return its id and event. Raises Invalid: also for a script of another app, or a module."""
        checked = check_payload(payload)
        execution_id: UUID = uuid7()
        effect = ScheduleExecution(execution_id=execution_id, script_id=script_id, run_at=run_at, payload=checked)

        async def append() -> Recorded:
            script = await require_endpoint(self._reader, app_id, script_id)
            return (await self._writer.append(app_id, acting, [Change(effect)], reads=[script]))[0]

        return execution_id, await retried(append)

    async def cancel(self, app_id: UUID, execution_id: UUID, acting: Acting) -> None:
        """Take a run back that has no outcome yet. Raises NotFound, or Conflict `not_scheduled`."""
        await self._writer.append(app_id, acting, [Change(CancelExecution(execution_id=execution_id))])
