"""What is asked of the executor, and what comes of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.authz import Principal
from domain.events import Metadata, Recorded
from domain.sandbox import Ending, RunResult
from projections.control.views import AppView, ScriptView
from runtime.host import Answer
from runtime.redaction import Revealed

SDK_VERSION: Final = "1"


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run, for whom and why. `ctx` is the part of the handler's argument that depends on the kind of invocation (`request` or `event`).

    `principal` is whose capabilities are checked (None: anonymous, the script is the gate); `actor` is how the events name the caller.
    """

    view: AppView
    script: ScriptView
    execution_id: UUID
    kind: str
    ctx: dict[str, Any]
    timeout_s: float
    actor: str
    principal: Principal | None = None
    request_id: str | None = None
    correlation_id: UUID | None = None
    causation: int | None = None
    depth: int = 0
    attempt: int = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended.

    As its last run did, or in `contention`. `duration_s` goes until the last run had ended; `queue_s` of it were spent waiting for a seat, and then `commit_s`
    passed until its changes were durable. `events` are what was committed, `journal` what an exact replay of the last run needs, with
    the secrets in it that `revealed` knows.
    """

    ending: Ending
    result: RunResult
    events: tuple[Recorded, ...]
    started_at: datetime
    duration_s: float
    reruns: int
    queue_s: float = 0.0
    commit_s: float = 0.0
    seed: str
    clock: datetime
    journal: tuple[Answer, ...]
    revealed: Revealed


def context_of(call: Invocation) -> dict[str, Any]:
    """The handler's argument."""
    return {
        "execution_id": str(call.execution_id),
        "script_id": str(call.script.id),
        "script_name": call.script.name,
        "app_id": str(call.view.app_id),
        "request_id": call.request_id,
        "invocation_type": call.kind,
        "sdk_version": SDK_VERSION,
        "depth": call.depth,
        "attempt": call.attempt,
        **call.ctx,
    }


def metadata_of(call: Invocation) -> Metadata:
    """What the events of an execution say of where they come from: those of each commit belong to one unit of its own."""
    return Metadata(
        unit_id=uuid7(),
        actor=call.actor,
        correlation_id=call.correlation_id or call.execution_id,
        causation=call.causation,
        depth=call.depth,
        request_id=call.request_id,
        execution_id=call.execution_id,
        script_id=call.script.id,
        script_version=call.script.version,
    )
