"""The projection `executions`: one row for each queued execution that has been accepted or has an outcome, and for each abandoned one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

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
from domain.statements import Statement, load_sql
from projections.base import Stages

_SQL: Final = load_sql("projections.outcomes", "executions.sql")


class Executions:
    """Table `executions`. `status`.

    Queued, retrying, succeeded, failed, dead_lettered, skipped or abandoned; details are in the event at `outcome_position`.
    """

    name = "executions"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("executions",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset(
        {HttpRequestAccepted, ExecutionSucceeded, ExecutionFailed, ExecutionDeadLettered, ExecutionSkipped, ExecutionAbandoned, RetentionApplied}
    )

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Upserts of the last event of each execution; retention cuts the run, because it drops what came before it only."""
        stages: list[list[Statement]] = []
        last: dict[tuple[object, str], Recorded] = {}
        for recorded in events:
            if not isinstance(recorded.event, RetentionApplied):
                last[recorded.app_id, recorded.stream] = recorded
            elif recorded.event.projection in {"executions", "abandoned"}:
                stages.extend(_saves(last.values()))
                last.clear()
                abandoned = recorded.event.projection == "abandoned"
                stages.append([Statement(_SQL["retain"], (recorded.app_id, recorded.event.before, abandoned))])
        stages.extend(_saves(last.values()))
        return stages


def _saves(events: Iterable[Recorded]) -> Stages:
    rows = [row for recorded in events if (row := _row(recorded)) is not None]
    return [[Statement(_SQL["save"], tuple(list(column) for column in zip(*rows, strict=True)))]] if rows else []


def _row(recorded: Recorded) -> tuple[object, ...] | None:
    match recorded.event:
        case HttpRequestAccepted() as e:
            return _columns(recorded, e.execution_id, "queued", "http", e.script_id, None, None, recorded.position, 0)
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
    ends = (recorded.position, attempt, metadata.correlation_id, metadata.depth, recorded.recorded_at)
    return (recorded.app_id, execution_id, status, source, script_id, script_version, trigger_id, cause, *ends)
