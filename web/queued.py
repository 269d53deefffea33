"""Asynchronous and durable routes: the request is accepted into the outbox; its answer is awaited, or asked for later by a URL that cannot be guessed."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal
from uuid import UUID

import anyio
import msgspec

from domain.authz import Principal
from domain.errors import Conflict, Invalid, NotFound, TooLarge
from domain.events import Event, Recorded
from domain.executions import (
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionSkipped,
    ExecutionSucceeded,
    FailReason,
    HttpRequest,
    HttpRequestAccepted,
    without_credentials,
)
from domain.ids import parse_uuid
from domain.routing import Route
from domain.sandbox import Ending, Reply, RunResult, ScriptError
from domain.schedule import ExecutionCanceled, ExecutionScheduled
from projections.control.views import AppView
from runtime.platform import Platform
from runtime.requests import MAX_QUEUED_BODY_BYTES, Accepted, Incoming, check_key, is_final
from web.answers import error_of, problem_reply, send_reply
from web.cors import answer_cors
from web.front import Receive, Scope, Send
from web.requests import request_id_of
from web.security import header

Status = Literal["queued", "scheduled", "canceled", "succeeded", "failed", "retrying", "dead_lettered", "skipped"]

_GRACE_S: Final = 2.0
_MAX_WAIT_S: Final = 300.0
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,5})(?:$|[,;\s])", re.IGNORECASE)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What a script answered. `body` is JSON as JSON, text as text, anything else in base64."""

    status: int
    headers: dict[str, str]
    body: Any


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a queued request stands: its newest attempt, and the script's answer (`response`) or the `error`; `retry_at` when it will be tried again."""

    execution_id: UUID
    status: Status
    updated_at: datetime
    attempt: int | None = None
    response: Answered | None = None
    error: ScriptError | None = None
    retry_at: datetime | None = None


async def answer_queued(
    platform: Platform,
    scope: Scope,
    receive: Receive,
    send: Send,
    view: AppView,
    route: Route,
    request: HttpRequest,
    principal: Principal | None,
) -> None:
    """Accept a request; answer 202, or for a durable route its outcome if that comes in time."""
    app_id = view.app_id
    if len(request.body) > MAX_QUEUED_BODY_BYTES:
        raise TooLarge(f"queued requests may have a body of at most {MAX_QUEUED_BODY_BYTES} bytes", max_body_bytes=MAX_QUEUED_BODY_BYTES)
    key = header(scope, b"idempotency-key")
    incoming = Incoming(
        app_id=app_id,
        route=route,
        request=msgspec.structs.replace(request, headers=without_credentials(request.headers)),
        actor="public" if principal is None else principal.actor,
        request_id=request_id_of(scope),
        key=None if key is None else check_key(key),
    )
    mode: Literal["async", "durable"] = "async" if route.dispatch_mode == "async" else "durable"
    accepted = await _accept(platform, incoming, mode)
    outcome = None if mode == "async" else await _await_outcome(platform, scope, receive, view, route, accepted)
    location = await platform.requests.poll_url(app_id, accepted.execution_id)
    if outcome is None:
        await send_reply(send, _accepted(accepted), accepted.execution_id, ((b"location", location.encode()),))
    else:
        await send_reply(send, reply_of(outcome.event, accepted.execution_id), accepted.execution_id)


async def answer_poll(platform: Platform, scope: Scope, send: Send, rest: str) -> None:
    """`GET /api/v1/executions/{execution_id}?token=…`: how a queued request stands. 404 for whoever has no valid token."""
    execution_id = parse_uuid(rest)
    missing = NotFound("there is no such execution, or the token is not for it", code="execution_not_found")
    if execution_id is None:
        raise missing
    app_id = await platform.requests.app_of_token(execution_id, _token(scope["query_string"]))
    # Tokens outlive the apps that they were made in.
    if app_id not in (await platform.directory.hosts()).apps:
        app_id = None
    cors = None if app_id is None else (await platform.directory.view(app_id)).settings.cors
    if cors is not None and cors.origins and await answer_cors(scope, send, cors):
        return
    if scope["method"] not in {"GET", "HEAD"}:
        raise missing
    newest = None if app_id is None else await platform.requests.outcome(app_id, execution_id)
    if newest is None:
        raise missing
    body = msgspec.json.encode(_standing(newest, execution_id))
    await send_reply(send, Reply(status=200, headers={"content-type": "application/json", "cache-control": "no-store"}, body=body), execution_id)


def reply_of(event: Event, execution_id: UUID) -> Reply:
    """The answer that a final event of a request holds."""
    match event:
        case ExecutionSucceeded(reply=Reply() as reply):
            return reply
        case ExecutionFailed() | ExecutionDeadLettered():
            result = RunResult(ending=_ending(event.reason), error=event.error)
            return problem_reply(error_of(result, execution_id))
        case ExecutionSkipped():
            return problem_reply(Conflict(f"the execution was skipped ({event.reason})", code="skipped", reason=event.reason, execution_id=str(execution_id)))
        case _:
            return Reply(status=204, headers={}, body=b"")


async def _accept(platform: Platform, incoming: Incoming, mode: Literal["async", "durable"]) -> Accepted:
    try:
        return await platform.requests.accept(incoming, mode)
    except Invalid as error:
        if error.code == "unit_too_large":  # headers, query and body together
            raise TooLarge("the request is longer than what can be queued") from error
        raise


async def _await_outcome(platform: Platform, scope: Scope, receive: Receive, view: AppView, route: Route, accepted: Accepted) -> Recorded | None:
    """The final event, or None when it does not come in time, when too many are waiting, or when the caller has gone: the execution goes on without him."""
    app_id = view.app_id
    if accepted.repeated:
        newest = await platform.requests.outcome(app_id, accepted.execution_id)
        if newest is None or not is_final(newest.event):
            raise Conflict("the first request with this Idempotency-Key is still in flight", code="in_flight", execution_id=str(accepted.execution_id))
        return newest
    prefer = _WAIT.search(header(scope, b"prefer") or "")
    seconds = min(float(prefer[1]), _MAX_WAIT_S) if prefer else view.scripts[route.script_id].timeout_s + _GRACE_S
    outcome: Recorded | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_with_the_caller, receive, tasks.cancel_scope)
        outcome = await platform.requests.wait(app_id, accepted.execution_id, seconds)
        tasks.cancel_scope.cancel()
    return outcome


async def _leave_with_the_caller(receive: Receive, waiting: anyio.CancelScope) -> None:
    """End the wait when the caller hangs up: nobody is there to hear, and whoever waits for nobody would only add up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    waiting.cancel()


def _accepted(accepted: Accepted) -> Reply:
    body = msgspec.json.encode({"accepted_at": accepted.accepted_at, "execution_id": accepted.execution_id})
    return Reply(status=202, headers={"content-type": "application/json"}, body=body)


def _standing(newest: Recorded, execution_id: UUID) -> Standing:
    event = newest.event
    known = partial(Standing, execution_id=execution_id, status=_STATUS[type(event)], updated_at=newest.recorded_at)
    match event:
        case ExecutionSucceeded():
            reply = reply_of(event, execution_id)
            return known(attempt=event.attempt, response=Answered(status=reply.status, headers=reply.headers, body=_body(reply)))
        case ExecutionFailed() if event.retry_at is not None:
            return known(status="retrying", attempt=event.attempt, error=event.error, retry_at=event.retry_at)
        case ExecutionFailed():
            return known(attempt=event.attempt, error=event.error)
        case ExecutionDeadLettered():
            return known(attempt=event.attempts, error=event.error)
        case ExecutionSkipped():
            return known(error=ScriptError(type="Skipped", message=event.reason))
        case _:
            return known()


_STATUS: Final[dict[type[Event], Status]] = {
    HttpRequestAccepted: "queued",
    ExecutionScheduled: "scheduled",
    ExecutionCanceled: "canceled",
    ExecutionSucceeded: "succeeded",
    ExecutionFailed: "failed",
    ExecutionDeadLettered: "dead_lettered",
    ExecutionSkipped: "skipped",
}


def _body(reply: Reply) -> Any:
    """JSON as JSON, text as text, anything else in base64."""
    kind = reply.headers.get("content-type", "")
    if kind.startswith("application/json") and reply.body:
        try:
            msgspec.json.decode(reply.body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # a script says so of anything
        else:
            return msgspec.Raw(reply.body)
    try:
        return reply.body.decode()
    except UnicodeDecodeError:
        return reply.body


def _ending(reason: FailReason) -> Ending:
    return "crashed" if reason in {"worker_lost", "refused"} else reason  # type: ignore[return-value]  # the two that are no endings are gone


def _token(query: bytes) -> str:
    found = re.search(rb"(?:^|&)token=([A-Za-z0-9_-]{1,200})(?:&|$)", query)
    return found[1].decode() if found else ""
