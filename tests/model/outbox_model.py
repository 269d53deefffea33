"""Which outbox rows are open, in plain Python: events one at a time, no SQL, nothing of the projection's code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.cron import Ticked
from domain.dead_letters import DeadLetterResolved
from domain.events import Recorded
from domain.executions import ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded, HttpRequestAccepted, Task
from domain.files import FileCreated, FileDeleted, FileUpdated
from domain.globs import matches
from domain.kv import KvDeleted, KvExpired, KvSet
from domain.pubsub import Published
from domain.schedule import ExecutionCanceled, ExecutionScheduled
from domain.triggers import Trigger, TriggerDeleted, TriggerSaved

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Open(msgspec.Struct, frozen=True):
    """A row that is still to be run."""

    task: Task
    due_at: datetime
    attempt: int = 1
    first_attempt_at: datetime | None = None


class OutboxModel:
    """Triggers, open rows, and unresolved dead letters of all apps."""

    def __init__(self) -> None:
        self.triggers: dict[tuple[UUID, UUID], Trigger] = {}
        self.open: dict[tuple[UUID, UUID], Open] = {}
        self.dead: dict[tuple[UUID, UUID], Task] = {}

    def fold(self, events: Iterable[Recorded]) -> None:
        for recorded in events:
            self._matched(recorded)
            self._changed(recorded)

    def _matched(self, recorded: Recorded) -> None:
        for (app_id, trigger_id), trigger in self.triggers.items():
            if app_id == recorded.app_id and trigger.enabled and _is_match(trigger, recorded.event):
                execution_id = derived_id(recorded, trigger_id)
                task = Task(
                    execution_id=execution_id, source=trigger.source, script_id=trigger.script_id, trigger_id=trigger_id, cause_position=recorded.position
                )
                self.open[app_id, execution_id] = Open(task, recorded.recorded_at)

    def _changed(self, recorded: Recorded) -> None:
        app_id = recorded.app_id
        match recorded.event:
            case TriggerSaved(trigger=trigger):
                self.triggers[app_id, trigger.id] = trigger
            case TriggerDeleted(trigger_id=trigger_id):
                self.triggers.pop((app_id, trigger_id), None)
            case HttpRequestAccepted(execution_id=execution_id, script_id=script_id):
                task = Task(execution_id=execution_id, source="http", script_id=script_id, trigger_id=None, cause_position=recorded.position)
                self.open[app_id, execution_id] = Open(task, recorded.recorded_at)
            case ExecutionScheduled(execution_id=execution_id, script_id=script_id, run_at=run_at):
                task = Task(execution_id=execution_id, source="schedule", script_id=script_id, trigger_id=None, cause_position=recorded.position)
                self.open[app_id, execution_id] = Open(task, run_at)
            case ExecutionCanceled(execution_id=execution_id):
                del self.open[app_id, execution_id]
            case Ticked(execution_id=execution_id, script_id=script_id, trigger_id=trigger_id):
                task = Task(execution_id=execution_id, source="cron", script_id=script_id, trigger_id=trigger_id, cause_position=recorded.position)
                self.open[app_id, execution_id] = Open(task, recorded.recorded_at)
            case ExecutionFailed(task=task, retry_at=datetime() as retry_at) as event:
                self.open[app_id, task.execution_id] = Open(task, retry_at, event.next_attempt, event.first_attempt_at)
            case ExecutionSucceeded(task=task) | ExecutionFailed(task=task) | ExecutionSkipped(task=task):
                del self.open[app_id, task.execution_id]
            case ExecutionDeadLettered(task=task):
                del self.open[app_id, task.execution_id]
                self.dead[app_id, task.execution_id] = task
            case DeadLetterResolved(dead_letter_id=dead_letter_id, replay=replay):
                self.dead.pop((app_id, dead_letter_id), None)
                if replay is not None:
                    self.open[app_id, replay.execution_id] = Open(replay, recorded.recorded_at)
            case _:
                pass


def derived_id(recorded: Recorded, trigger_id: UUID) -> UUID:
    """The id that a match has in every replay: a UUIDv7 of the event's time, the rest a digest."""
    micros = (recorded.recorded_at - EPOCH) // (recorded.recorded_at.resolution)
    digest = hashlib.md5(f"{recorded.app_id}{recorded.position}{trigger_id}".encode()).hexdigest()
    return UUID(f"{(micros + 500) // 1000:012x}7{digest[:3]}a{digest[3:18]}")


def _is_match(trigger: Trigger, event: Any) -> bool:
    match event:
        case KvSet() | KvDeleted() | KvExpired():
            return trigger.source == "kv" and (not trigger.ops or event.op in trigger.ops) and matches(trigger.pattern, event.collection)
        case FileCreated() | FileUpdated() | FileDeleted():
            return trigger.source == "files" and (not trigger.ops or event.op in trigger.ops) and matches(trigger.pattern, event.collection)
        case Published():
            return trigger.source == "pubsub" and (not trigger.ops or event.op in trigger.ops) and matches(trigger.pattern, event.topic)
        case ExecutionDeadLettered(task=task):
            filters = (trigger.detail.get("source"), trigger.detail.get("trigger_id"), trigger.detail.get("script_id"))
            values = (task.source, str(task.trigger_id), str(task.script_id))
            return trigger.source == "dead_letter" and all(wanted in {None, value} for wanted, value in zip(filters, values, strict=True))
        case _:
            return False
