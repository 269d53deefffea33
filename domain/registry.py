"""The one place where kinds of streams are registered."""

from __future__ import annotations

from typing import Final

from domain import kv
from domain.aggregates import Aggregate, TriggerSubject
from domain.events import Event, EventRegistry
from domain.judge import Rules

AGGREGATES: Final[tuple[Aggregate, ...]] = (kv.AGGREGATE,)

EVENTS: Final = EventRegistry(event for aggregate in AGGREGATES for event in aggregate.events)
RULES: Final = Rules(AGGREGATES)

_SUBJECTS: Final = {event: aggregate.subject for aggregate in AGGREGATES if aggregate.subject is not None for event in aggregate.events}


def trigger_subject(event: Event) -> TriggerSubject | None:
    """What triggers can match this event by; None when none ever does."""
    subject = _SUBJECTS.get(type(event))
    return None if subject is None else subject(event)
