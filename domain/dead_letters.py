"""Dead letters: executions whose last attempt failed, until somebody or a handler resolves them. A dead letter has its execution's id and is resolved once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from domain.aggregates import Aggregate, always
from domain.errors import Conflict
from domain.events import Event
from domain.executions import Task
from domain.ids import stream
from domain.units import Effect

Resolution = Literal["replayed", "ignored", "handled_by_script", "handler_failed"]


class DeadLetterResolved(Event, frozen=True, kw_only=True):
    """A dead letter is done with. `replay` is the new outbox row of a replay."""

    TOPIC = "dead_letters.DeadLetterResolved"
    dead_letter_id: UUID
    resolution: Resolution
    reason: str | None = None
    replay: Task | None = None


class ResolveDeadLetter(Effect, frozen=True, kw_only=True):
    """Resolve a dead letter. `lenient` (a handler's outcome): nothing happens when it is resolved already; otherwise that is a conflict."""

    dead_letter_id: UUID
    resolution: Resolution
    reason: str | None = None
    replay: Task | None = None
    lenient: bool = False

    @property
    def stream(self) -> str:
        return dead_letter_stream(self.dead_letter_id)


def dead_letter_stream(dead_letter_id: UUID) -> str:
    """The stream of a dead letter's resolution."""
    return stream("dead_letter", dead_letter_id)


def decide_resolve(effect: ResolveDeadLetter, last: Event | None, now: datetime) -> Sequence[Event]:
    """Resolve once."""
    del now
    if isinstance(last, DeadLetterResolved):
        if effect.lenient:
            return ()
        raise Conflict(f"this dead letter was resolved already ({last.resolution})", code="already_resolved", resolution=last.resolution)
    return (DeadLetterResolved(dead_letter_id=effect.dead_letter_id, resolution=effect.resolution, reason=effect.reason, replay=effect.replay),)


AGGREGATES: Final = (Aggregate(kind="dead_letter", events=(DeadLetterResolved,), deciders={ResolveDeadLetter: decide_resolve}, exists=always),)
