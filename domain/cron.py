"""Cron ticks: what a schedule came to at each of its times.

A schedule is a trigger's (its detail has `schedule`, `timezone` and `overlap`). When it is due next stands in the events that move it, so that a replay under
other rules of time zones gives the same schedules. Ticks of a trigger are a stream `cron:<trigger_id>`: its exact version is expected by the next one, so there
is one tick however many processes find it due.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from domain.aggregates import Aggregate, always
from domain.events import Event
from domain.ids import stream

Overlap = Literal["skip", "queue"]
"""What becomes of a tick while a run of the same trigger is queued or running."""
TickSkipReason = Literal["overlap", "no_such_timezone"]


class Ticked(Event, frozen=True, kw_only=True):
    """A schedule was due at `scheduled_at`, the latest of its times up to `fired_at`, and its script is to be run. `next_due_at` None: never again."""

    TOPIC = "cron.Ticked"
    op: Literal["tick"] = "tick"
    trigger_id: UUID
    script_id: UUID
    execution_id: UUID
    schedule: str
    timezone: str
    scheduled_at: datetime
    fired_at: datetime
    next_due_at: datetime | None


class TickSkipped(Event, frozen=True, kw_only=True):
    """A schedule was due and nothing is run, for a reason."""

    TOPIC = "cron.TickSkipped"
    trigger_id: UUID
    reason: TickSkipReason
    schedule: str
    timezone: str
    scheduled_at: datetime
    fired_at: datetime
    next_due_at: datetime | None


def cron_stream(trigger_id: UUID) -> str:
    """The stream of a trigger's ticks."""
    return stream("cron", trigger_id)


AGGREGATES: Final = (Aggregate(kind="cron", events=(Ticked, TickSkipped), deciders={}, exists=always),)
