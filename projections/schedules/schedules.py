"""The projection `schedules`: one row for each cron trigger, derived from events alone; when it is due next stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from domain.cron import Ticked, TickSkipped
from domain.events import Event, Recorded
from domain.statements import Statement, load_sql
from domain.triggers import TriggerDeleted, TriggerSaved
from projections.base import Stages
from projections.rows import rows

_SQL: Final = load_sql("projections.schedules", "schedules.sql")

SCHEDULE_MOVED: Final = "schedules"
"""The label under which the log counts rows that triggers have moved, so that the scheduler looks at once."""


class Schedules:
    """Table `schedules`. `next_due_at` is null while a trigger is disabled; `tick_version` is that of its stream of ticks, `trigger_version` its own."""

    name = "schedules"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("schedules",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({TriggerSaved, TriggerDeleted, Ticked, TickSkipped})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """A stage for each run of events in which no trigger has two."""
        return [stage for run in _runs(events) if (stage := _statements(run))]


def _runs(events: Iterable[Recorded]) -> Iterable[list[Recorded]]:
    run: dict[tuple[UUID, UUID], Recorded] = {}
    for recorded in events:
        if (key := _key(recorded)) is not None:
            if key in run:
                yield list(run.values())
                run = {}
            run[key] = recorded
    yield list(run.values())


def _key(recorded: Recorded) -> tuple[UUID, UUID] | None:
    match recorded.event:
        case TriggerSaved(trigger=trigger):
            return (recorded.app_id, trigger.id) if trigger.source == "cron" else None
        case TriggerDeleted(trigger_id=trigger_id) | Ticked(trigger_id=trigger_id) | TickSkipped(trigger_id=trigger_id):
            return recorded.app_id, trigger_id
        case _:
            return None


def _statements(run: Iterable[Recorded]) -> list[Statement]:
    saved: list[dict[str, Any]] = []
    ticked: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    for recorded in run:
        match recorded.event:
            case TriggerSaved():
                saved.append(_saved(recorded, recorded.event))
            case TriggerDeleted(trigger_id=trigger_id):
                gone.append({"app_id": recorded.app_id, "trigger_id": trigger_id})
            case Ticked() | TickSkipped():
                ticked.append(_ticked(recorded, recorded.event))
    statements = [Statement(_SQL["save"], (rows(saved),), counted=SCHEDULE_MOVED)] if saved else []
    return statements + [Statement(_SQL[name], (rows(values),)) for name, values in (("tick", ticked), ("delete", gone)) if values]


def _saved(recorded: Recorded, event: TriggerSaved) -> dict[str, Any]:
    trigger = event.trigger
    return {
        "app_id": recorded.app_id,
        "trigger_id": trigger.id,
        "trigger_version": recorded.version,
        "script_id": trigger.script_id,
        "schedule": trigger.detail["schedule"],
        "timezone": trigger.detail["timezone"],
        "overlap": trigger.detail["overlap"],
        "next_due_at": event.next_due_at,
        "tick_version": 0,
    }


def _ticked(recorded: Recorded, event: Ticked | TickSkipped) -> dict[str, Any]:
    return {
        "app_id": recorded.app_id,
        "trigger_id": event.trigger_id,
        "tick_version": recorded.version,
        "next_due_at": event.next_due_at,
        "last_scheduled_at": event.scheduled_at,
        "last_fired_at": event.fired_at,
        "last_execution_id": event.execution_id if isinstance(event, Ticked) else None,
        "last_skip_reason": event.reason if isinstance(event, TickSkipped) else None,
    }
