"""The projection `outbox`: which executions are still to be run, derived from the log alone.

An event that matches a trigger enabled at its position, an accepted request, a scheduled run, a tick and a replay add a row; an outcome reschedules or
removes it. The claim (`worker_id`, `fence`) is not derived: the reactor writes it, or the commit that adds the row does for a reactor that can run it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.claiming import NOBODY
from domain.cron import Ticked
from domain.dead_letters import DeadLetterResolved
from domain.events import Event, Recorded
from domain.executions import ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded, HttpRequestAccepted, Task
from domain.registry import TRIGGERING, trigger_subject
from domain.schedule import ExecutionCanceled, ExecutionScheduled
from domain.statements import Statement, load_sql
from domain.triggers import TriggerDeleted, TriggerSaved
from projections.base import Stages
from projections.rows import Life, changed, lives

_SQL: Final = load_sql("projections.outbox", "statements.sql")
_TRIGGERS: Final = (TriggerSaved, TriggerDeleted)
_OUTCOMES: Final = (ExecutionSucceeded, ExecutionFailed, ExecutionDeadLettered, ExecutionSkipped, ExecutionCanceled)

_RAN: Final = (ExecutionSucceeded, ExecutionFailed, ExecutionDeadLettered, ExecutionSkipped)

OUTBOX_GREW: Final = "outbox"
"""The label under which the log counts new rows that nobody has claimed, so that the reactor is woken only when there are any."""


class Outbox:
    """Tables `triggers` and `outbox`."""

    name = "outbox"
    version = 2
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("triggers", "outbox")
    volatile_columns: tuple[str, ...] = ("worker_id", "fence")
    handles: frozenset[type[Event]] = frozenset({*_TRIGGERS, *_OUTCOMES, HttpRequestAccepted, ExecutionScheduled, Ticked, DeadLetterResolved, *TRIGGERING})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Trigger changes, then new rows, then outcomes; a run of events that needs another order takes several rounds of these."""
        stages: list[list[Statement]] = []
        for group in _rounds(events):
            stages.extend(stage for stage in _round(group) if stage)
        return stages


class _Round(msgspec.Struct):
    """Events that may be applied as: all trigger changes, all new rows, all outcomes."""

    first_position: dict[UUID, int]
    triggers: list[Recorded]
    causes: list[Recorded]
    outcomes: list[Recorded]


def _rounds(events: Sequence[Recorded]) -> Iterable[_Round]:
    """Cut where a trigger changes after something could have matched it."""
    current = _Round({}, [], [], [])
    for recorded in events:
        if isinstance(recorded.event, _TRIGGERS):
            if current.causes:
                yield current
                current = _Round({}, [], [], [])
            current.triggers.append(recorded)
            continue
        current.first_position.setdefault(recorded.app_id, recorded.position)
        if isinstance(recorded.event, _OUTCOMES):
            current.outcomes.append(recorded)
        if not isinstance(recorded.event, _OUTCOMES) or isinstance(recorded.event, ExecutionDeadLettered):
            current.causes.append(recorded)
    yield current


def _round(group: _Round) -> Stages:
    """Usually one stage: statements are put behind one another only where a row or trigger is made and needed within the same round."""
    triggers = _trigger_changes(group.triggers)
    inserts = [*_matched(group.causes), *_tasks(group.causes)]
    outcomes = _outcomes(group.outcomes)
    if _ends_own_rows(group):
        return [*triggers, inserts, outcomes]
    return [*triggers, [*inserts, *outcomes]]


def _ends_own_rows(group: _Round) -> bool:
    """Whether an outcome may end a row of the same round.

    So it is in the pages of a rebuild; a live outcome follows a claim, which follows the row's commit. What is cancelled may have been scheduled just now.
    """
    if any(isinstance(recorded.event, ExecutionCanceled) for recorded in group.outcomes):
        return True
    replays = {recorded.event.replay.execution_id for recorded in group.causes if isinstance(recorded.event, DeadLetterResolved) and recorded.event.replay}
    return any(
        recorded.event.task.cause_position >= group.first_position[recorded.app_id] or recorded.event.task.execution_id in replays
        for recorded in group.outcomes
        if isinstance(recorded.event, _RAN)
    )


def _trigger_changes(events: Sequence[Recorded]) -> Stages:
    return changed(lives(events, TriggerDeleted), TriggerDeleted, _trigger_row, _SQL["save_triggers"], _SQL["delete_triggers"])


def _trigger_row(life: Life) -> dict[str, Any]:
    match life.last.event:
        case TriggerSaved(trigger=trigger):
            return {
                "app_id": life.last.app_id,
                "trigger_id": trigger.id,
                "source": trigger.source,
                "pattern": trigger.pattern,
                "ops": trigger.ops,
                "enabled": trigger.enabled,
                "script_id": trigger.script_id,
                "trigger": trigger,
                "created_at": life.created_at,
            }
        case TriggerDeleted(trigger_id=trigger_id):
            return {"app_id": life.last.app_id, "trigger_id": trigger_id}
        case _:
            raise TypeError(life.last.event)


def _matched(events: Sequence[Recorded]) -> list[Statement]:
    """Join events with triggers by the patterns of their subjects; each distinct subject brings its patterns once."""
    subjects: dict[tuple[UUID, str, tuple[str, ...]], int] = {}
    rows: list[tuple[int, int, str, object]] = []
    for recorded in events:
        subject = trigger_subject(recorded.event)
        if subject is not None:
            number = subjects.setdefault((recorded.app_id, subject.source, subject.patterns), len(subjects))
            rows.append((number, recorded.position, subject.op, recorded.recorded_at))
    if not rows:
        return []
    candidates = [(app_id, source, number, pattern) for (app_id, source, patterns), number in subjects.items() for pattern in patterns]
    return [Statement(_SQL["insert_matched"], (*_columns(candidates), *_columns(rows), *NOBODY), counted=OUTBOX_GREW, claimable=True)]


def _tasks(events: Sequence[Recorded]) -> list[Statement]:
    rows: list[tuple[object, ...]] = []
    later: list[tuple[object, ...]] = []
    for recorded in events:
        task = _task(recorded)
        if task is not None:
            due_at = recorded.event.run_at if isinstance(recorded.event, ExecutionScheduled) else recorded.recorded_at
            row = (recorded.app_id, task.execution_id, task.cause_position, task.source, task.trigger_id, task.script_id, due_at)
            (later if isinstance(recorded.event, ExecutionScheduled) else rows).append(row)
    # What is due at another time is nobody's when it is born.
    pairs = ((rows, True), (later, False))
    return [Statement(_SQL["insert_tasks"], (*_columns(found), *NOBODY), counted=OUTBOX_GREW, claimable=now) for found, now in pairs if found]


def _task(recorded: Recorded) -> Task | None:
    event = recorded.event
    if isinstance(event, HttpRequestAccepted):
        return Task(execution_id=event.execution_id, source="http", script_id=event.script_id, trigger_id=None, cause_position=recorded.position)
    if isinstance(event, ExecutionScheduled):
        return Task(execution_id=event.execution_id, source="schedule", script_id=event.script_id, trigger_id=None, cause_position=recorded.position)
    if isinstance(event, Ticked):
        return Task(execution_id=event.execution_id, source="cron", script_id=event.script_id, trigger_id=event.trigger_id, cause_position=recorded.position)
    return event.replay if isinstance(event, DeadLetterResolved) else None


def _outcomes(events: Sequence[Recorded]) -> list[Statement]:
    """The last outcome of each row: to be tried again, or done."""
    last = {(recorded.app_id, _execution_id(recorded.event)): recorded.event for recorded in events if isinstance(recorded.event, _OUTCOMES)}
    again = [
        (app_id, execution_id, event.retry_at, event.next_attempt, event.first_attempt_at)
        for (app_id, execution_id), event in last.items()
        if isinstance(event, ExecutionFailed) and event.retry_at is not None
    ]
    rescheduled = {(row[0], row[1]) for row in again}
    done = [key for key in last if key not in rescheduled]
    statements = []
    if again:
        statements.append(Statement(_SQL["reschedule"], _columns(again), counted=OUTBOX_GREW))
    if done:
        statements.append(Statement(_SQL["remove"], _columns(done)))
    return statements


def _execution_id(event: ExecutionSucceeded | ExecutionFailed | ExecutionDeadLettered | ExecutionSkipped | ExecutionCanceled) -> UUID:
    return event.execution_id if isinstance(event, ExecutionCanceled) else event.task.execution_id


def _columns(rows: Sequence[tuple[object, ...]]) -> tuple[list[object], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))
