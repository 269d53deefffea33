"""What is counted: events by topic, executions by outcome and by script, dead letters by what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date
from typing import Final
from uuid import UUID

import msgspec

from domain.dead_letters import DeadLetterResolved
from domain.events import Event, Recorded
from domain.executions import ExecutionAbandoned, ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded
from domain.schedule import ExecutionCanceled

NOTHING: Final = UUID(int=0)
"""The subject of counts that have none."""


class Count(msgspec.Struct, frozen=True):
    """What an event is one more of. `subject` is a script, of counts by script."""

    app_id: UUID
    day: date
    kind: str
    subject: UUID
    name: str


def counted(events: Iterable[Recorded]) -> Counter[Count]:
    """How often each count goes up."""
    return Counter(Count(recorded.app_id, recorded.recorded_at.astimezone(UTC).date(), *what) for recorded in events for what in _counts(recorded.event))


def _counts(event: Event) -> Iterator[tuple[str, UUID, str]]:
    yield "events", NOTHING, event.TOPIC
    outcome = outcome_of(event)
    if outcome is not None:
        yield "executions", NOTHING, outcome
        script_id = _script_of(event)
        if script_id is not None:
            yield "scripts", script_id, outcome
    if isinstance(event, ExecutionDeadLettered):
        yield "dead_letters", NOTHING, "arrived"
    elif isinstance(event, DeadLetterResolved):
        yield "dead_letters", NOTHING, event.resolution


def outcome_of(event: Event) -> str | None:
    """How an execution, or one attempt at it, has ended; None for any other event."""
    if isinstance(event, ExecutionFailed):
        return "failed" if event.retry_at is None else "retrying"
    return _OUTCOMES.get(type(event))


_OUTCOMES: Final[dict[type[Event], str]] = {
    ExecutionSucceeded: "succeeded",
    ExecutionDeadLettered: "dead_lettered",
    ExecutionSkipped: "skipped",
    ExecutionAbandoned: "abandoned",
    ExecutionCanceled: "canceled",
}


def _script_of(event: Event) -> UUID | None:
    if isinstance(event, ExecutionAbandoned):
        return event.script_id
    if isinstance(event, ExecutionSucceeded | ExecutionFailed | ExecutionDeadLettered | ExecutionSkipped):
        return event.task.script_id
    return None


def columns(counts: Counter[Count]) -> Sequence[list[object]]:
    """Counts as the arrays of a statement."""
    rows = [(each.app_id, each.day, each.kind, each.subject, each.name, number) for each, number in counts.items()]
    return [list(column) for column in zip(*rows, strict=True)]
