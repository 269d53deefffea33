"""From a claimed outbox row to an execution, and from its ending to the row's outcome, committed as one unit under the claim's fence."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from uuid_utils.compat import uuid7

from domain.authz import Principal
from domain.bounds import UNBOUNDED
from domain.clock import Clock
from domain.events import Event, Metadata, Recorded, json_bytes
from domain.executions import MAX_DEPTH, ExecutionDeadLettered, HttpRequest, HttpRequestAccepted, SkipReason
from domain.ports import Appender
from domain.sandbox import RunResult, ScriptError
from domain.schedule import ExecutionScheduled
from domain.scripts import Ceiling
from domain.triggers import Trigger
from domain.units import Change, Unit
from projections.control.views import AppView, ScriptView
from projections.outbox.claims import Claim
from runtime.directory import Directory
from runtime.executor import Executor
from runtime.invocation import Invocation, Outcome
from runtime.limits.quotas import Quotas
from runtime.offloop import off_loop
from runtime.outcomes import WORKER_LOST, Attempt, Terms, settle, settle_failure, skip, terms_of_request, terms_of_scheduled, terms_of_trigger
from runtime.sdk import EVENTS
from runtime.services import rfc3339

PrincipalOf = Callable[[str], Awaitable[Principal | None]]
"""The principal behind an actor (`user:<id>`), None when it is gone or inactive. `public` has none: the script is the gate."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with what it needs from the log: the event that caused it, the one before that in its stream, and its trigger, if it has one still."""

    claim: Claim
    cause: Recorded
    before: Event | None
    trigger: Trigger | None


class _ScriptDeleted(Exception):
    """The script was deleted while its run waited for a seat."""


class Dispatcher:
    """Runs claimed rows."""

    def __init__(
        self, log: Appender, executor: Executor, directory: Directory, principal_of: PrincipalOf, quotas: Quotas, clock: Clock, ceiling: Ceiling
    ) -> None:
        self._log = log
        self._executor = executor
        self._directory = directory
        self._principal_of = principal_of
        self.quotas = quotas
        self._clock = clock
        self._ceiling = ceiling

    async def run(self, work: Work, ended: Callable[[], None]) -> tuple[Invocation, Outcome] | None:
        """Run a row to its outcome; `ended` is called when its script has ended, each time that it is run, and what is left is to commit that.

        None when it was skipped. Raises QuotaExceeded, FenceLost, LogClosed, Unavailable or OutcomeUnknown: the row has no outcome from us then.
        """
        view = await self._directory.view(work.claim.app_id)
        if view.bounds is not UNBOUNDED:
            await self.quotas.admit_run(view.app_id, view.bounds)
        script = view.scripts.get(work.claim.task.script_id)
        depth = _depth(work)
        principal = await self._principal(work)
        reason = _skip_reason(work, script, depth, principal)
        if reason is not None or script is None:
            await self._skip(work, reason or "script_deleted", depth)
            return None
        self.quotas.usage.execution(view.app_id)
        call = await self._invocation(work, view, script, depth, principal)
        terms = _terms(work)

        def outcome(result: RunResult, started_at: datetime, duration_s: float) -> Sequence[Change]:
            ended()
            attempt = _attempt(work.claim, started_at, duration_s * 1000, script.version)
            return settle(attempt, terms, result, self._clock(), _draw())

        async def seated() -> None:
            if script.id not in (await self._directory.view(work.claim.app_id)).scripts:
                raise _ScriptDeleted

        try:
            return call, await self._executor.execute(call, outcome, work.claim.fence, seated)
        except _ScriptDeleted:
            await self._skip(work, "script_deleted", depth)
            return None

    async def lose(self, work: Work, error: ScriptError = WORKER_LOST) -> None:
        """Record that the platform did not get a row run, which spends an attempt: its worker is lost (FenceLost is raised when it was not), or `error`."""
        now = self._clock()
        attempt = _attempt(work.claim, now, 0.0, 0)
        terms = _terms(work) if work.trigger is not None or work.claim.task.trigger_id is None else None
        changes = skip(work.claim.task, "trigger_deleted") if terms is None else settle_failure(attempt, terms, "worker_lost", error, now, _draw())  # jitter
        await self._append(work, changes, _depth(work))

    async def _principal(self, work: Work) -> Principal | None:
        """Whose capabilities count: a trigger's registrant's, an accepted request's caller's."""
        actor = work.cause.metadata.actor if work.trigger is None else work.trigger.registrant
        return await self._principal_of(actor)

    async def _skip(self, work: Work, reason: SkipReason, depth: int) -> None:
        await self._append(work, skip(work.claim.task, reason), depth)

    async def _append(self, work: Work, changes: Sequence[Change], depth: int) -> None:
        task, cause = work.claim.task, work.cause
        metadata = Metadata(
            unit_id=uuid7(),
            actor="system",
            correlation_id=cause.metadata.correlation_id or task.execution_id,
            causation=cause.position,
            depth=depth,
            execution_id=task.execution_id,
            script_id=task.script_id,
        )
        unit = Unit(app_id=work.claim.app_id, metadata=metadata, now=self._clock(), changes=tuple(changes), fence=work.claim.fence)
        await self._log.append(unit)

    async def _invocation(self, work: Work, view: AppView, script: ScriptView, depth: int, principal: Principal | None) -> Invocation:
        claim, cause = work.claim, work.cause
        accepted = cause.event if isinstance(cause.event, HttpRequestAccepted) else None
        registrant = cause.metadata.actor if work.trigger is None else work.trigger.registrant
        return Invocation(
            view=view,
            script=script,
            execution_id=claim.task.execution_id,
            kind="http" if accepted is not None else "trigger",
            ctx={"event": await _event(work)} if accepted is None else {"request": await request_ctx(accepted.request)},
            timeout_s=min(script.timeout_s, self._ceiling.async_timeout_s),
            actor=registrant,
            principal=principal,
            request_id=cause.metadata.request_id,
            correlation_id=cause.metadata.correlation_id or claim.task.execution_id,
            causation=cause.position,
            depth=depth,
            attempt=claim.attempt,
        )


async def request_ctx(request: HttpRequest) -> dict[str, Any]:
    """`ctx.request`: `body` is parsed JSON when the content type says so, else text, else bytes."""
    return {
        "method": request.method,
        "path": request.path,
        "host": request.host,
        "headers": request.headers,
        "query": request.query,
        "params": request.params,
        "rest": request.rest,
        "body": await off_loop(len(request.body), lambda: _parsed_body(request)),
        "body_bytes": request.body,
    }


async def _event(work: Work) -> dict[str, Any]:
    size = sum(map(json_bytes, (work.cause.event, work.before)))
    return await off_loop(size, lambda: event_ctx(work))


def event_ctx(work: Work) -> dict[str, Any]:
    """`ctx.event` of a triggered run."""
    cause = work.cause
    source = work.claim.task.source
    if isinstance(cause.event, ExecutionDeadLettered):
        detail = _dead_letter_ctx(cause.event)
        op = "dead_letter"
    else:
        detail = EVENTS[source](cause.event, work.before)
        op = getattr(cause.event, "op", "")
    return {"source": source, "op": op, "position": cause.position, "version": cause.version, source: detail}


def _dead_letter_ctx(dead: ExecutionDeadLettered) -> dict[str, Any]:
    task = dead.task
    return {
        "dead_letter_id": str(task.execution_id),
        "original": {"source": task.source, "execution_id": str(task.execution_id), "position": task.cause_position},
        "attempts": dead.attempts,
        "last_error": msgspec.to_builtins(dead.error),
        "first_attempt_at": rfc3339(dead.first_attempt_at),
        "last_attempt_at": rfc3339(dead.last_attempt_at),
        "trigger_id": None if task.trigger_id is None else str(task.trigger_id),
        "script_id": str(task.script_id),
    }


def _parsed_body(request: HttpRequest) -> Any:
    if not request.body:
        return None
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return msgspec.json.decode(request.body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return _text_or_bytes(request.body)
    return _text_or_bytes(request.body)


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _draw() -> float:
    """The chance behind a retry's jitter."""
    return random.random()  # noqa: S311  # spreads load, guards nothing


def _depth(work: Work) -> int:
    """Requests begin a chain; whatever a trigger runs or a script has scheduled is one deeper than what caused it.

    A replay keeps its depth, because its cause is the same.
    """
    cause = work.cause
    is_caused = work.claim.task.trigger_id is not None or (isinstance(cause.event, ExecutionScheduled) and cause.metadata.execution_id is not None)
    return cause.metadata.depth + (1 if is_caused else 0)


def _skip_reason(work: Work, script: ScriptView | None, depth: int, principal: Principal | None) -> SkipReason | None:
    actor = work.cause.metadata.actor if work.trigger is None else work.trigger.registrant
    checks: tuple[tuple[bool, SkipReason], ...] = (
        (work.claim.task.trigger_id is not None and work.trigger is None, "trigger_deleted"),
        (work.trigger is not None and not work.trigger.enabled, "trigger_disabled"),
        (script is None, "script_deleted"),
        (script is not None and script.kind != "endpoint", "not_an_endpoint"),
        (depth > MAX_DEPTH, "depth"),
        (principal is None and actor != "public", "registrant_inactive"),
    )
    return next((reason for failed, reason in checks if failed), None)


def _terms(work: Work) -> Terms:
    if isinstance(work.cause.event, HttpRequestAccepted):
        return terms_of_request(work.cause.event)
    if isinstance(work.cause.event, ExecutionScheduled):
        return terms_of_scheduled(work.cause.event)
    if work.trigger is None:
        msg = f"execution {work.claim.task.execution_id} has neither a request nor a trigger"
        raise LookupError(msg)
    return terms_of_trigger(work.trigger, work.cause.event)


def _attempt(claim: Claim, started_at: datetime, duration_ms: float, script_version: int) -> Attempt:
    return Attempt(
        task=claim.task,
        number=claim.attempt,
        first_at=claim.first_attempt_at or started_at,
        started_at=started_at,
        duration_ms=duration_ms,
        script_version=script_version,
    )
