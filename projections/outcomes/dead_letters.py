"""The projection `dead_letters`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from domain.dead_letters import DeadLetterResolved
from domain.events import Event, Recorded
from domain.executions import ExecutionDeadLettered
from domain.retention import RetentionApplied
from domain.statements import Statement, load_sql
from projections.base import Stages
from projections.rows import rows

_SQL: Final = load_sql("projections.outcomes", "dead_letters.sql")


class DeadLetters:
    """Table `dead_letters`; a row's id is its execution's."""

    name = "dead_letters"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("dead_letters",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({ExecutionDeadLettered, DeadLetterResolved, RetentionApplied})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Arrivals, then resolutions, each run of them cut by retention."""
        stages: list[list[Statement]] = []
        run: list[Recorded] = []
        for recorded in events:
            if not isinstance(recorded.event, RetentionApplied):
                run.append(recorded)
            elif recorded.event.projection == "dead_letters":
                stages.extend(_stages(run))
                run = []
                stages.append([Statement(_SQL["retain"], (recorded.app_id, recorded.event.before))])
        stages.extend(_stages(run))
        return stages


def _stages(run: Iterable[Recorded]) -> Stages:
    arrived: dict[tuple[UUID, str], dict[str, Any]] = {}
    resolved: dict[tuple[UUID, str], dict[str, Any]] = {}
    for recorded in run:
        match recorded.event:
            case ExecutionDeadLettered() as event:
                arrived.setdefault((recorded.app_id, recorded.stream), _arrival(recorded, event))
            case DeadLetterResolved() as event:
                resolved[recorded.app_id, recorded.stream] = _resolution(recorded, event)
    pairs = ((_SQL["save"], list(arrived.values())), (_SQL["resolve"], list(resolved.values())))
    return [[Statement(sql, (rows(values),))] for sql, values in pairs if values]


def _arrival(recorded: Recorded, event: ExecutionDeadLettered) -> dict[str, Any]:
    task = event.task
    return {
        "app_id": recorded.app_id,
        "dead_letter_id": task.execution_id,
        "source": task.source,
        "script_id": task.script_id,
        "trigger_id": task.trigger_id,
        "cause_position": task.cause_position,
        "attempts": event.attempts,
        "reason": event.reason,
        "last_error": event.error,
        "first_attempt_at": event.first_attempt_at,
        "last_attempt_at": event.last_attempt_at,
        "depth": recorded.metadata.depth,
        "correlation_id": recorded.metadata.correlation_id,
        "dead_lettered_at": recorded.recorded_at,
    }


def _resolution(recorded: Recorded, event: DeadLetterResolved) -> dict[str, Any]:
    return {
        "app_id": recorded.app_id,
        "dead_letter_id": event.dead_letter_id,
        "resolution": event.resolution,
        "resolved_at": recorded.recorded_at,
        "resolved_by": recorded.metadata.actor,
        "resolve_reason": event.reason,
        "replayed_as": None if event.replay is None else event.replay.execution_id,
    }
