"""The one place where kinds of streams are registered."""

from __future__ import annotations

from typing import Final

from domain import (
    access,
    api_keys,
    app_settings,
    apps,
    cron,
    dead_letters,
    docs,
    executions,
    files,
    kv,
    members,
    names,
    pubsub,
    retention,
    routes,
    schedule,
    scripts,
    secrets,
    topics,
    triggers,
    users,
)
from domain.aggregates import Aggregate, TriggerSubject
from domain.events import Event, EventRegistry
from domain.judge import Rules

AGGREGATES: Final[tuple[Aggregate, ...]] = (
    kv.AGGREGATE,
    docs.AGGREGATE,
    secrets.AGGREGATE,
    files.AGGREGATE,
    pubsub.AGGREGATE,
    *topics.AGGREGATES,
    *names.AGGREGATES,
    *apps.AGGREGATES,
    *app_settings.AGGREGATES,
    *users.AGGREGATES,
    members.AGGREGATE,
    api_keys.AGGREGATE,
    *access.AGGREGATES,
    *scripts.AGGREGATES,
    *routes.AGGREGATES,
    *triggers.AGGREGATES,
    *cron.AGGREGATES,
    *executions.AGGREGATES,
    *schedule.AGGREGATES,
    *dead_letters.AGGREGATES,
    *retention.AGGREGATES,
)

EVENTS: Final = EventRegistry(event for aggregate in AGGREGATES for event in aggregate.events)
RULES: Final = Rules(AGGREGATES)

_SUBJECTS: Final = {event: aggregate.subject for aggregate in AGGREGATES if aggregate.subject is not None for event in aggregate.events}

TRIGGERING: Final = frozenset(_SUBJECTS)
"""Every event type that some trigger may match."""


def trigger_subject(event: Event) -> TriggerSubject | None:
    """What triggers can match this event by; None when none ever does."""
    subject = _SUBJECTS.get(type(event))
    return None if subject is None else subject(event)
