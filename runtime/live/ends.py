"""Executions as they end: from the event that says so, or from the record of a run that left none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.events import Event, Recorded
from domain.executions import ExecutionAbandoned, ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded
from domain.schedule import ExecutionCanceled
from projections.statistics.counts import outcome_of

ENDS: Final[tuple[type[Event], ...]] = (
    ExecutionSucceeded,
    ExecutionFailed,
    ExecutionDeadLettered,
    ExecutionSkipped,
    ExecutionCanceled,
    ExecutionAbandoned,
)
STATUSES: Final = ("succeeded", "failed", "retrying", "dead_lettered", "skipped", "canceled", "abandoned")


class End(msgspec.Struct, frozen=True, kw_only=True):
    """An execution, or an attempt that is made again (`retrying`), that has ended.

    `position` is its outcome's event, None for a run that left none: a synchronous one. `reason` is why it failed or was skipped.
    """

    execution_id: UUID
    status: str
    source: str
    script_id: UUID | None
    script_version: int | None
    trigger_id: UUID | None
    attempt: int
    reason: str | None
    duration_ms: float | None
    cause_position: int | None
    position: int | None
    correlation_id: UUID | None
    depth: int
    ended_at: datetime


class EndTail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which executions; None means any."""

    status: str | None = None
    script_id: UUID | None = None
    trigger_id: UUID | None = None

    def passes(self, end: End) -> bool:
        """Whether an execution is one of these."""
        return self.status in {None, end.status} and self.script_id in {None, end.script_id} and self.trigger_id in {None, end.trigger_id}


def end_of(recorded: Recorded) -> End:
    """What an event of `ENDS` says."""
    metadata = recorded.metadata
    return End(
        status=outcome_of(recorded.event) or "",
        position=recorded.position,
        correlation_id=metadata.correlation_id,
        depth=metadata.depth,
        ended_at=recorded.recorded_at,
        **({"script_version": metadata.script_version} | _told(recorded.event)),
    )


def end_of_run(row: Mapping[str, Any]) -> End:
    """What a record says of a run that left no outcome in the log."""
    succeeded = row["outcome"] in {"returned", "aborted"}
    fields = {name: row[name] for name in ("execution_id", "source", "script_id", "script_version", "trigger_id", "attempt", "duration_ms")}
    return End(
        status="succeeded" if succeeded else "failed",
        reason=None if succeeded else row["outcome"],
        cause_position=None,
        position=None,
        correlation_id=row["correlation_id"],
        depth=row["depth"],
        ended_at=row["ended_at"],
        **fields,
    )


def _told(event: Event) -> dict[str, Any]:
    match event:
        case ExecutionSucceeded() as e:
            return _queued(e) | {"attempt": e.attempt, "duration_ms": e.duration_ms, "script_version": e.script_version}
        case ExecutionFailed() as e:
            return _queued(e) | {"attempt": e.attempt, "reason": e.reason, "duration_ms": e.duration_ms}
        case ExecutionDeadLettered() as e:
            return _queued(e) | {"attempt": e.attempts, "reason": e.reason, "duration_ms": e.duration_ms}
        case ExecutionSkipped() as e:
            return _queued(e) | {"reason": e.reason}
        case ExecutionAbandoned() as e:
            return _NOTHING | {"execution_id": e.execution_id, "script_id": e.script_id, "source": "http", "attempt": 1}
        case ExecutionCanceled() as e:
            return _NOTHING | {"execution_id": e.execution_id, "source": "schedule"}
        case _:
            raise TypeError(event)


_NOTHING: Final[dict[str, Any]] = {"script_id": None, "trigger_id": None, "cause_position": None, "attempt": 0, "reason": None, "duration_ms": None}


def _queued(event: ExecutionSucceeded | ExecutionFailed | ExecutionDeadLettered | ExecutionSkipped) -> dict[str, Any]:
    task = event.task
    known = {"execution_id": task.execution_id, "source": task.source, "script_id": task.script_id, "trigger_id": task.trigger_id}
    return _NOTHING | known | {"cause_position": task.cause_position}
