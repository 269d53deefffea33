"""The projection `executions`: one row for each queued execution that has been accepted or has an outcome, and for each abandoned one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from domain.events import Event, Recorded
from domain.executions import (
    ExecutionAbandoned,
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionSkipped,
    ExecutionSucceeded,
    HttpRequestAccepted,
)
from domain.retention import RetentionApplied
from domain.schedule import ExecutionCanceled, ExecutionScheduled
from domain.statements import Statement, load_sql
from projections.base import Stages

_SQL: Final = load_sql("projections.outcomes", "executions.sql")


class Executions:
    """Table `executions`. `status`.

    Queued, scheduled, canceled, retrying, succeeded, failed, dead_lettered, skipped or abandoned; details are in the event at `outcome_position`.
    """

    name = "executions"
    version = 3
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("executions",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset(
        {
            HttpRequestAccepted,
            ExecutionScheduled,
            ExecutionCanceled,
            ExecutionSucceeded,
            ExecutionFailed,
            ExecutionDeadLettered,
            ExecutionSkipped,
            ExecutionAbandoned,
            RetentionApplied,
        }
    )

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Upserts of the last event of each execution, then what was cancelled; retention cuts the run, because it drops what came before it only."""
        stages: list[list[Statement]] = []
        run = _Run({}, {})
        for recorded in events:
            if not isinstance(recorded.event, RetentionApplied):
                run.add(recorded)
            elif recorded.event.projection in {"executions", "abandoned"}:
                stages.extend(run.stages())
                run = _Run({}, {})
                abandoned = recorded.event.projection == "abandoned"
                stages.append([Statement(_SQL["retain"], (recorded.app_id, recorded.event.before, abandoned))])
        stages.extend(run.stages())
        return stages


class _Run(msgspec.Struct):
    """The last event of each execution that has all of its row, and those after which it was cancelled."""

    last: dict[tuple[UUID, str], Recorded]
    canceled: dict[tuple[UUID, str], Recorded]

    def add(self, recorded: Recorded) -> None:
        key = (recorded.app_id, recorded.stream)
        if isinstance(recorded.event, ExecutionCanceled):
            self.canceled[key] = recorded
        else:
            self.canceled.pop(key, None)
            self.last[key] = recorded

    def stages(self) -> Stages:
        return [*_saves(self.last.values()), *_cancels(self.canceled.values())]


def _cancels(events: Iterable[Recorded]) -> Stages:
    rows = [
        (recorded.app_id, recorded.event.execution_id, recorded.position, recorded.recorded_at)
        for recorded in events
        if isinstance(recorded.event, ExecutionCanceled)
    ]
    return [[Statement(_SQL["cancel"], tuple(list(column) for column in zip(*rows, strict=True)))]] if rows else []


def _saves(events: Iterable[Recorded]) -> Stages:
    rows = [row for recorded in events if (row := _row(recorded)) is not None]
    return [[Statement(_SQL["save"], tuple(list(column) for column in zip(*rows, strict=True)))]] if rows else []


def _row(recorded: Recorded) -> tuple[object, ...] | None:
    match recorded.event:
        case HttpRequestAccepted() as e:
            return _columns(recorded, e.execution_id, "queued", "http", e.script_id, None, None, recorded.position, 0)
        case ExecutionScheduled() as e:
            return _columns(recorded, e.execution_id, "scheduled", "schedule", e.script_id, None, None, recorded.position, 0)
        case ExecutionSucceeded(task=t) as e:
            return _columns(recorded, t.execution_id, "succeeded", t.source, t.script_id, e.script_version, t.trigger_id, t.cause_position, e.attempt)
        case ExecutionFailed(task=t) as e:
            status = "retrying" if e.retry_at is not None else "failed"
            return _columns(recorded, t.execution_id, status, t.source, t.script_id, None, t.trigger_id, t.cause_position, e.attempt)
        case ExecutionDeadLettered(task=t) as e:
            return _columns(recorded, t.execution_id, "dead_lettered", t.source, t.script_id, None, t.trigger_id, t.cause_position, e.attempts)
        case ExecutionSkipped(task=t):
            return _columns(recorded, t.execution_id, "skipped", t.source, t.script_id, None, t.trigger_id, t.cause_position, 0)
        case ExecutionAbandoned() as e:
            return _columns(recorded, e.execution_id, "abandoned", "http", e.script_id, None, None, recorded.position, 1)
        case _:
            return None


def _columns(recorded: Recorded, execution_id: object, status: str, source: str, script_id: object, *rest: object) -> tuple[object, ...]:
    script_version, trigger_id, cause, attempt = rest
    metadata = recorded.metadata
    script_version = metadata.script_version if script_version is None and attempt else script_version
    ends = (recorded.position, attempt, metadata.correlation_id, metadata.depth, recorded.recorded_at)
    return (recorded.app_id, execution_id, status, source, script_id, script_version, trigger_id, cause, *ends)
