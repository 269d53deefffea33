"""Queued executions: requests accepted into the outbox, and what became of every outbox row.

An execution that HTTP or a trigger has queued is a stream `execution:<id>`. Its outcome and its effects are one unit under its claim's fence. A
synchronous request leaves no event here unless its caller had gone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate, TriggerSubject, always
from domain.events import Event
from domain.ids import stream
from domain.retry import RetryPolicy
from domain.sandbox import Reply, ScriptError

MAX_DEPTH: Final = 8
_CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

TaskSource = Literal["http", "kv", "docs", "files", "pubsub", "cron", "schedule", "dead_letter"]
SkipReason = Literal["depth", "script_deleted", "trigger_disabled", "trigger_deleted", "registrant_inactive", "app_closed", "not_an_endpoint"]
FailReason = Literal["raised", "invalid", "timed_out", "budget", "crashed", "worker_lost", "contention", "refused"]


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as a script sees it. Header names are lower case; credentials were removed. `path` is decoded, `rest` what a prefix route left over."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    query: dict[str, str]
    params: dict[str, str]
    rest: str | None
    body: bytes


def without_credentials(headers: dict[str, str]) -> dict[str, str]:
    """Headers (names in lower case) as they may be recorded."""
    return {name: value for name, value in headers.items() if name not in _CREDENTIALS}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What an outbox row stands for: run this script because of the event at `cause_position`. `trigger_id` None: an accepted request."""

    execution_id: UUID
    source: TaskSource
    script_id: UUID
    trigger_id: UUID | None
    cause_position: int


class HttpRequestAccepted(Event, frozen=True, kw_only=True):
    """A request was taken into the outbox and its caller told so (`async`), or is waiting (`durable`: the script's own failure is its answer)."""

    TOPIC = "executions.HttpRequestAccepted"
    execution_id: UUID
    script_id: UUID
    route_id: UUID
    mode: Literal["async", "durable"]
    request: HttpRequest
    retry: RetryPolicy


class ExecutionSucceeded(Event, frozen=True, kw_only=True):
    """It ran and its effects, if any, stand beside this event. `reply` is kept for whoever asks for an accepted request's answer."""

    TOPIC = "executions.ExecutionSucceeded"
    task: Task
    script_version: int
    attempt: int
    started_at: datetime
    duration_ms: float
    reply: Reply | None = None


class ExecutionFailed(Event, frozen=True, kw_only=True):
    """An attempt failed. With `retry_at` the row is due again then, as `next_attempt`; without, this was its end."""

    TOPIC = "executions.ExecutionFailed"
    task: Task
    attempt: int
    reason: FailReason
    error: ScriptError
    first_attempt_at: datetime
    started_at: datetime
    duration_ms: float
    retry_at: datetime | None = None
    next_attempt: int = 0


class ExecutionDeadLettered(Event, frozen=True, kw_only=True):
    """The last attempt failed; the execution waits as a dead letter of the same id."""

    TOPIC = "executions.ExecutionDeadLettered"
    task: Task
    attempts: int
    reason: FailReason
    error: ScriptError
    first_attempt_at: datetime
    last_attempt_at: datetime
    duration_ms: float


class ExecutionSkipped(Event, frozen=True, kw_only=True):
    """It was not run, on purpose."""

    TOPIC = "executions.ExecutionSkipped"
    task: Task
    reason: SkipReason


class ExecutionAbandoned(Event, frozen=True, kw_only=True):
    """A synchronous run was committed, but its caller had gone: nobody heard the answer."""

    TOPIC = "executions.ExecutionAbandoned"
    execution_id: UUID
    script_id: UUID
    status: int


class IdempotencyKeyUsed(Event, frozen=True, kw_only=True):
    """A caller's `Idempotency-Key` stands for this execution until `expires_at`. `request_hash` is the SHA-256 (hex) of the body it came with."""

    TOPIC = "executions.IdempotencyKeyUsed"
    execution_id: UUID
    request_hash: str
    expires_at: datetime


QueuedOutcome = ExecutionSucceeded | ExecutionFailed | ExecutionDeadLettered | ExecutionSkipped


def execution_stream(execution_id: UUID) -> str:
    """The stream of a queued execution."""
    return stream("execution", execution_id)


def idempotency_stream(digest: str) -> str:
    """The stream of an idempotency key; `digest` stands for route, principal and key together."""
    return stream("idempotency", digest)


def dead_letter_patterns(source: str, trigger_id: UUID | None, script_id: UUID) -> tuple[str, ...]:
    """Every pattern of a dead-letter trigger that a dead letter matches: each of its three filters set or left open."""
    return tuple(
        dead_letter_pattern(s, t, c) for s in (source, None) for t in ((str(trigger_id), None) if trigger_id else (None,)) for c in (str(script_id), None)
    )


def dead_letter_pattern(source: str | None, trigger_id: str | None, script_id: str | None) -> str:
    """The pattern of a dead-letter trigger with these filters; None leaves one open."""
    return "/".join(part or "*" for part in (source, trigger_id, script_id))


def trigger_subject(event: Event) -> TriggerSubject | None:
    """Dead letters trigger their handlers."""
    if not isinstance(event, ExecutionDeadLettered):
        return None
    task = event.task
    return TriggerSubject("dead_letter", "dead_letter", dead_letter_patterns(task.source, task.trigger_id, task.script_id))


AGGREGATES: Final = (
    Aggregate(
        kind="execution",
        events=(HttpRequestAccepted, ExecutionSucceeded, ExecutionFailed, ExecutionDeadLettered, ExecutionSkipped, ExecutionAbandoned),
        deciders={},
        exists=always,
        subject=trigger_subject,
    ),
    Aggregate(
        kind="idempotency",
        events=(IdempotencyKeyUsed,),
        deciders={},
        exists=lambda last, now: isinstance(last, IdempotencyKeyUsed) and last.expires_at > now,
    ),
)
