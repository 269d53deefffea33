"""Runs that were asked for once, for a time: like any other row of the outbox, but due at that time. Until one has begun it can be cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate, always
from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event
from domain.executions import execution_stream
from domain.retry import RetryPolicy
from domain.units import Effect
from domain.values import encode_json

MAX_PAYLOAD_BYTES: Final = 256 * 1024


class ExecutionScheduled(Event, frozen=True, kw_only=True):
    """A script is to be run at `run_at`, at once if that has passed, with `payload` (JSON)."""

    TOPIC = "schedule.ExecutionScheduled"
    op: Literal["run"] = "run"
    execution_id: UUID
    script_id: UUID
    run_at: datetime
    payload: msgspec.Raw
    retry: RetryPolicy


class ExecutionCanceled(Event, frozen=True, kw_only=True):
    """It is not run. What had begun and was not committed has not happened."""

    TOPIC = "schedule.ExecutionCanceled"
    execution_id: UUID


class ScheduleExecution(Effect, frozen=True, kw_only=True):
    """Ask for a run under a new id."""

    execution_id: UUID
    script_id: UUID
    run_at: datetime
    payload: msgspec.Raw
    retry: RetryPolicy = RetryPolicy()

    @property
    def stream(self) -> str:
        return execution_stream(self.execution_id)


class CancelExecution(Effect, frozen=True, kw_only=True):
    """Take a run back. `lenient`: nothing happens when there is none that has not been tried; otherwise that is refused."""

    execution_id: UUID
    lenient: bool = False

    @property
    def stream(self) -> str:
        return execution_stream(self.execution_id)


def decide_schedule(effect: ScheduleExecution, last: Event | None, now: datetime) -> Sequence[Event]:
    """An id is used once."""
    del now
    if last is not None:
        raise Invalid("schedule: this id was used already", field="id")
    return (ExecutionScheduled(execution_id=effect.execution_id, script_id=effect.script_id, run_at=effect.run_at, payload=effect.payload, retry=effect.retry),)


def decide_cancel(effect: CancelExecution, last: Event | None, now: datetime) -> Sequence[Event]:
    """Only what has no outcome yet, not even of a first attempt."""
    del now
    if isinstance(last, ExecutionScheduled):
        return (ExecutionCanceled(execution_id=effect.execution_id),)
    if effect.lenient:
        return ()
    if last is None:
        raise NotFound("there is no such execution")
    raise Conflict("this execution is not scheduled, or not any more", code="not_scheduled")


def check_payload(value: object, field: str = "payload") -> msgspec.Raw:
    """A JSON value that a run may be given. Raises Invalid."""
    return msgspec.Raw(encode_json(value, field, max_bytes=MAX_PAYLOAD_BYTES))


AGGREGATES: Final = (
    Aggregate(
        kind="execution",
        events=(ExecutionScheduled, ExecutionCanceled),
        deciders={ScheduleExecution: decide_schedule, CancelExecution: decide_cancel},
        exists=always,
    ),
)
