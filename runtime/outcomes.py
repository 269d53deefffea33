"""What an ending of a queued execution means: success, another attempt, a dead letter, or nothing more. Pure: time and chance are handed in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from domain.dead_letters import Resolution, ResolveDeadLetter
from domain.events import Event
from domain.executions import (
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionSkipped,
    ExecutionSucceeded,
    FailReason,
    HttpRequestAccepted,
    SkipReason,
    Task,
    execution_stream,
)
from domain.retry import RetryPolicy, delay_s, is_exhausted
from domain.sandbox import Ending, RunResult, ScriptError
from domain.schedule import ExecutionScheduled
from domain.triggers import Trigger
from domain.units import Change, Effect, Record

_CONTENTION: Final = RetryPolicy(max_attempts=20, backoff="constant", base_ms=500, jitter_pct=50)
WORKER_LOST: Final = ScriptError(type="WorkerLost", message="the process that ran this execution stopped")

Retries = Literal["policy", "worker_lost", "never"]
"""Which failures are tried again: those that the policy allows, only those of the platform (`durable`), or none (dead-letter handlers)."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Under what terms a row is run: how failures are retried, whether its answer is kept, and which dead letter it handles, if any."""

    policy: RetryPolicy
    retries: Retries = "policy"
    keeps_reply: bool = False
    handles: Task | None = None


def terms_of_trigger(trigger: Trigger, cause: Event) -> Terms:
    """A trigger's own policy; a dead-letter handler is never retried."""
    if isinstance(cause, ExecutionDeadLettered):
        return Terms(policy=trigger.retry, retries="never", handles=cause.task)
    return Terms(policy=trigger.retry)


def terms_of_request(accepted: HttpRequestAccepted) -> Terms:
    """The answer is kept for whoever asks; of a durable request, the script's own failure is its answer."""
    return Terms(policy=accepted.retry, retries="policy" if accepted.mode == "async" else "worker_lost", keeps_reply=True)


def terms_of_scheduled(scheduled: ExecutionScheduled) -> Terms:
    """As of an accepted request that nobody waits for."""
    return Terms(policy=scheduled.retry, keeps_reply=True)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a row: which one, when it began and when the first one did, how long it took."""

    task: Task
    number: int
    first_at: datetime
    started_at: datetime
    duration_ms: float
    script_version: int


def settle(attempt: Attempt, terms: Terms, result: RunResult, now: datetime, draw: float) -> tuple[Change, ...]:
    """The changes that record an attempt's ending. `draw` in [0, 1) is the chance behind the retry's jitter."""
    if result.ending in {"returned", "aborted"}:
        reply = result.reply if terms.keeps_reply else None
        event: Event = ExecutionSucceeded(
            task=attempt.task,
            script_version=attempt.script_version,
            attempt=attempt.number,
            started_at=attempt.started_at,
            duration_ms=attempt.duration_ms,
            reply=reply,
        )
        return (_outcome(event, attempt.task), *_handled(terms, "handled_by_script"))
    error = result.error or ScriptError(type="Error", message=result.ending)
    return settle_failure(attempt, terms, _reason(result.ending), error, now, draw)


def settle_failure(attempt: Attempt, terms: Terms, reason: FailReason, error: ScriptError, now: datetime, draw: float) -> tuple[Change, ...]:
    """Try again, end as a dead letter, or end. Contention spends no attempt."""
    if reason == "contention":
        return (_outcome(_failed(attempt, reason, error, now + timedelta(seconds=delay_s(_CONTENTION, 1, draw)), attempt.number), attempt.task),)
    again = terms.retries == "policy" or (terms.retries == "worker_lost" and reason == "worker_lost")
    if again and not is_exhausted(terms.policy, attempt.number):
        retry_at = now + timedelta(seconds=delay_s(terms.policy, attempt.number, draw))
        return (_outcome(_failed(attempt, reason, error, retry_at, attempt.number + 1), attempt.task),)
    if terms.retries == "policy":
        return (_outcome(_dead(attempt, reason, error), attempt.task),)
    return (_outcome(_failed(attempt, reason, error, None, 0), attempt.task), *_handled(terms, "handler_failed"))


def skip(task: Task, reason: SkipReason) -> tuple[Change, ...]:
    """The change that records that a row is not run."""
    return (_outcome(ExecutionSkipped(task=task, reason=reason), task),)


def _failed(attempt: Attempt, reason: FailReason, error: ScriptError, retry_at: datetime | None, next_attempt: int) -> ExecutionFailed:
    return ExecutionFailed(
        task=attempt.task,
        attempt=attempt.number,
        reason=reason,
        error=error,
        first_attempt_at=attempt.first_at,
        started_at=attempt.started_at,
        duration_ms=attempt.duration_ms,
        retry_at=retry_at,
        next_attempt=next_attempt,
    )


def _dead(attempt: Attempt, reason: FailReason, error: ScriptError) -> ExecutionDeadLettered:
    return ExecutionDeadLettered(
        task=attempt.task,
        attempts=attempt.number,
        reason=reason,
        error=error,
        first_attempt_at=attempt.first_at,
        last_attempt_at=attempt.started_at,
        duration_ms=attempt.duration_ms,
    )


def _outcome(event: Event, task: Task) -> Change:
    return Change(Record(name=execution_stream(task.execution_id), event=event))


def _handled(terms: Terms, resolution: Resolution) -> tuple[Change, ...]:
    if terms.handles is None:
        return ()
    effect: Effect = ResolveDeadLetter(dead_letter_id=terms.handles.execution_id, resolution=resolution, lenient=True)
    return (Change(effect),)


def _reason(ending: Ending) -> FailReason:
    match ending:
        case "returned" | "aborted":
            return "refused"
        case _:
            return ending
