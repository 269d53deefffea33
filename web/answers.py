"""Answers to callers of scripts: what an execution's ending means in HTTP."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from domain.errors import BudgetExceeded, Contention, PiCloudError, ScriptInvalid, ScriptRaised, ScriptTimedOut
from domain.sandbox import Reply, RunResult, ScriptError
from runtime.invocation import Outcome
from web.front import Send
from web.problems import problem
from web.security import SESSION_COOKIE

_NOT_FOR_SCRIPTS: Final = frozenset(
    {"connection", "content-length", "date", "keep-alive", "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"x-request-id", "x-execution-id"}
)
_BODILESS: Final = frozenset({204, 304})


def answer_of(outcome: Outcome, execution_id: UUID) -> Reply:
    """The script's answer, or the problem that its ending is."""
    reply = outcome.result.reply
    return problem_reply(error_of(outcome.result, execution_id)) if reply is None else reply


def error_of(result: RunResult, execution_id: UUID) -> PiCloudError:
    """A failed ending as an error: 422 invalid, 502 raised, 503 contention, 504 timed out, 507 over budget, 502 when the worker died of it."""
    error = result.error or ScriptError(type="Error", message=result.ending)
    detail = f"{error.type}: {error.message}" if error.message else error.type
    extra = {"execution_id": str(execution_id), "error": msgspec.to_builtins(error)}
    match result.ending:
        case "invalid":
            return ScriptInvalid(detail, **extra)
        case "timed_out":
            return ScriptTimedOut(detail, **extra)
        case "budget":
            return BudgetExceeded(detail, **extra)
        case "contention":
            return Contention(detail, retry_after_s=1.0, **extra)
        case "crashed":
            return ScriptRaised(detail, code="script_crashed", **extra)
        case _:
            return ScriptRaised(detail, **extra)


def timing_of(outcome: Outcome, gate_s: float) -> tuple[bytes, bytes]:
    """`Server-Timing` (W3C), in ms: how long it waited for its turn, ran (over all of its runs), and took to become durable."""
    queue_s = gate_s + outcome.queue_s
    run_s = outcome.duration_s - outcome.queue_s
    return (b"server-timing", b"queue;dur=%.3f, run;dur=%.3f, commit;dur=%.3f" % (queue_s * 1000, run_s * 1000, outcome.commit_s * 1000))


def problem_reply(error: PiCloudError) -> Reply:
    """A problem document as a reply."""
    status, headers, body = problem(error)
    return Reply(status=status, headers={name.decode("latin-1"): value.decode("latin-1") for name, value in headers}, body=body)


def _sets_session(name: str, value: str) -> bool:
    """A script must not log its visitors in as somebody."""
    # Browsers send a cookie without a name (`=name=value`) as its bare value (RFC 6265bis, 5.8.3), which reads as one that has it.
    return name.lower() == "set-cookie" and value.lstrip(" \t=").partition("=")[0].strip() == SESSION_COOKIE


async def send_reply(send: Send, reply: Reply, execution_id: UUID, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a reply. Headers that the server alone may set are left out; a bodiless status gets no body."""
    body = b"" if reply.status in _BODILESS else reply.body
    headers = [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in reply.headers.items()
        if name.lower() not in _NOT_FOR_SCRIPTS and not _sets_session(name, value)
    ]
    if reply.status not in _BODILESS:
        headers.append((b"content-length", b"%d" % len(body)))
    headers.append((b"x-execution-id", str(execution_id).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": [*headers, *extra]})
    await send({"type": "http.response.body", "body": body})
