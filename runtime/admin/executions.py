"""Executions: what ran, what is to be tried again, and what became of it.

Two sources tell: the read model of queued executions, which the log can rebuild, and the records of all runs, which are kept for a while and as far as they
could be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.errors import Invalid, NotFound
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("runtime.admin", "executions.sql")

Status = Literal["queued", "scheduled", "canceled", "retrying", "succeeded", "failed", "dead_lettered", "skipped", "abandoned"]
_WALK: Final = 10_000
"""How many rows of either source a page looks at."""

STATUSES: Final[tuple[str, ...]] = get_args(Status)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a script: how it ended (`outcome`), the answer's `status` when it had one, the error, and what it logged."""

    execution_id: UUID
    attempt: int
    script_version: int
    source: str
    trigger_id: UUID | None
    outcome: str
    status: int | None
    duration_ms: float
    request_id: str | None
    started_at: datetime
    error: msgspec.Raw | None
    logs: msgspec.Raw


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution as it stands. `cause_position` and `outcome_position` are the events that asked for it and that say how it ended, if it was queued."""

    execution_id: UUID
    status: str
    source: str
    script_id: UUID
    script_version: int | None
    trigger_id: UUID | None
    attempt: int
    cause_position: int | None
    outcome_position: int | None
    correlation_id: UUID | None
    depth: int
    updated_at: datetime


class ExecutionDetail(Execution, frozen=True, kw_only=True):
    """An execution with the event at `outcome_position` and its runs, the first attempt first."""

    outcome_topic: str | None
    outcome: msgspec.Raw | None
    runs: list[Run]


class Caller(msgspec.Struct, frozen=True):
    """An actor and the id of its request."""

    actor: str
    request_id: str | None


class Executions:
    """The executions of all apps."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        self._reader = reader
        self._log = log

    async def page(
        self, app_id: UUID, *, status: str | None, script_id: UUID | None, trigger_id: UUID | None, before: UUID | None, limit: int
    ) -> tuple[list[Execution], UUID | None]:
        """Up to `limit` executions, newest first, and the id before which the next page goes on, None after the last.

        A page looks only so far back, so one through a filter may be short, or empty, and still have a next one. Raises Invalid for an unknown status.
        """
        if status is not None and status not in STATUSES:
            raise Invalid(f"status: expected one of {', '.join(STATUSES)}", field="status")
        floor = (await self._reader.fetch(_SQL["floor"], app_id, before, _WALK - 1))[0]["execution_id"]
        rows = await self._reader.fetch(_SQL["page"], app_id, before, status, script_id, trigger_id, limit + 1, floor)
        found = [Execution(**row) for row in rows[:limit]]
        return found, found[-1].execution_id if len(rows) > limit else floor

    async def get(self, app_id: UUID, execution_id: UUID) -> ExecutionDetail:
        """One execution with its runs. Raises NotFound."""
        execution = await self.find(app_id, execution_id)
        if execution is None:
            raise NotFound("there is no such execution")
        place = (app_id, execution.outcome_position or 0)
        event = (await self._log.read_positions([place])).get(place)
        return ExecutionDetail(
            **msgspec.structs.asdict(execution),
            outcome_topic=None if event is None else event.event.TOPIC,
            outcome=None if event is None else msgspec.Raw(msgspec.json.encode(event.event)),
            runs=[_run(row) for row in await self._reader.fetch(_SQL["runs_of_execution"], app_id, execution_id)],
        )

    async def find(self, app_id: UUID, execution_id: UUID) -> Execution | None:
        """One execution, if something is kept of it."""
        rows = await self._reader.fetch(_SQL["one"], app_id, execution_id) or await self._reader.fetch(_SQL["one_run"], app_id, execution_id)
        return Execution(**rows[0]) if rows else None

    async def caller(self, app_id: UUID, execution_id: UUID) -> Caller | None:
        """Who asked for a run that was recorded, and in which request."""
        rows = await self._reader.fetch(_SQL["caller"], app_id, execution_id)
        return Caller(**rows[0]) if rows else None

    async def runs_of_script(self, app_id: UUID, script_id: UUID, before: tuple[datetime, UUID, int] | None, limit: int) -> list[Run]:
        """A script's runs, newest first."""
        started_at, execution_id, attempt = before or (None, None, None)
        return [_run(row) for row in await self._reader.fetch(_SQL["runs_of_script"], app_id, script_id, started_at, execution_id, attempt, limit)]


def _run(row: Mapping[str, Any]) -> Run:
    fields = dict(row)
    error, logs = fields.pop("error"), fields.pop("logs")
    # JSON null in the column and no value at all mean the same.
    return Run(error=None if error in (None, "null") else msgspec.Raw(error.encode()), logs=msgspec.Raw((logs or "[]").encode()), **fields)
