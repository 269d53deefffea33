"""One execution is one unit of work: run, collect, commit together with the outcome; when something it has read has changed meanwhile, run again.

A re-run is unseen by the script's author: same execution id, seed and versions, a new clock. Re-runs are bounded by the script's time limit over all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from secrets import token_hex
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from uuid_utils.compat import uuid7

from domain.authz import Principal
from domain.clock import Clock
from domain.errors import Invalid, PiCloudError, VersionConflict
from domain.events import Metadata, Recorded
from domain.modules import resolve
from domain.ports import Appender, CheckReads, Reader
from domain.sandbox import Ending, Job, RunResult, Sandbox, ScriptError, Source
from domain.units import Change, Fence, Read, Unit
from projections.control.views import AppView, ScriptView
from runtime.contention import HotStreams
from runtime.host import Answer, EffectRefused, RunHost
from runtime.services import Access

SDK_VERSION: Final = "1"
_MIN_RERUN_S: Final = 0.01
_MODULE_SETS_KEPT: Final = 512
_MAX_MESSAGE_CHARS: Final = 4096
_BY_ITS_READS: Final = frozenset({"returned", "aborted", "raised"})
"""Endings that what was read may have decided; the others (time, memory, a crash) stand whatever was read."""


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

    As its last run did, or in `contention`. `events` are what was committed, `journal` what an exact replay of the last run needs.
    """

    ending: Ending
    result: RunResult
    events: tuple[Recorded, ...]
    started_at: datetime
    duration_s: float
    reruns: int
    seed: str
    clock: datetime
    journal: tuple[Answer, ...]


OutcomeChanges = Callable[[RunResult, datetime, float], Sequence[Change]]
"""`(result, started_at, duration_s)`: the changes that record a queued execution's outcome beside its effects."""


def no_outcome(result: RunResult, started_at: datetime, duration_s: float) -> Sequence[Change]:
    """Synchronous executions leave no outcome in the log."""
    del result, started_at, duration_s
    return ()


class Executor:
    """Runs invocations."""

    def __init__(self, log: Appender, reader: Reader, check_reads: CheckReads, sandbox: Sandbox, clock: Clock) -> None:
        self._log = log
        self._check_reads = check_reads
        self._reader = reader
        self._sandbox = sandbox
        self._clock = clock
        self._hot = HotStreams()
        self._modules: dict[tuple[UUID, int, tuple[tuple[str, int], ...]], tuple[Source, ...]] = {}

    async def execute(self, call: Invocation, outcome: OutcomeChanges = no_outcome, fence: Fence | None = None) -> Outcome:
        """Run to an ending and commit it.

        The script's own failures are endings, not exceptions. Raises FenceLost, LogClosed, Unavailable or OutcomeUnknown when the outcome could not be
        committed; nothing of the execution has happened then (or, for OutcomeUnknown, nobody knows yet).
        """
        started_at, began = self._clock(), time.perf_counter()
        deadline = anyio.current_time() + call.timeout_s
        seed = token_hex(16)
        lost: set[str] = set()
        reruns = 0
        while True:
            async with AsyncExitStack() as stack:
                if lost and not await self._queue(stack, call, lost, deadline):
                    return await self._end(_contention(), call, outcome, fence, started_at, began, reruns, seed)
                run = await self._run(call, seed, deadline - anyio.current_time())
                duration_s = time.perf_counter() - began
                try:
                    events = await self._commit(run, call, outcome(run.result, started_at, duration_s), fence)
                except VersionConflict as conflict:
                    stream = conflict.extra.get("stream")
                    if stream is None:
                        raise
                    lost.add(stream)
                    reruns += 1
                    if deadline - anyio.current_time() < _MIN_RERUN_S:
                        return await self._end(_contention(), call, outcome, fence, started_at, began, reruns, seed)
                    continue
                except Invalid as error:
                    return await self._end(_refused(run.result, error), call, outcome, fence, started_at, began, reruns, seed)
            return Outcome(
                ending=run.result.ending,
                result=run.result,
                events=events,
                started_at=started_at,
                duration_s=duration_s,
                reruns=reruns,
                seed=seed,
                clock=run.access.now,
                journal=tuple(run.host.journal),
            )

    async def _queue(self, stack: AsyncExitStack, call: Invocation, lost: set[str], deadline: float) -> bool:
        """Wait for the streams that were lost on. False when the time is up first."""
        with anyio.move_on_at(deadline) as waiting:
            await stack.enter_async_context(self._hot.hold(call.view.app_id, lost))
        return not waiting.cancelled_caught

    async def _run(self, call: Invocation, seed: str, left_s: float) -> _Run:
        now = self._clock()
        access = Access(reader=self._reader, app_id=call.view.app_id, principal=call.principal, now=now)
        host = RunHost(access)
        script = call.script
        try:
            modules = await self._modules_of(call.view, script)
        except Invalid as error:
            result = RunResult(ending="invalid", error=ScriptError(type="ImportError", message=error.detail))
            return _Run(result, (), access, host)
        job = Job(
            app_id=call.view.app_id,
            script=Source(script.name, script.source),
            modules=modules,
            ctx=_ctx(call),
            clock=now,
            seed=seed,
            timeout_s=max(left_s, _MIN_RERUN_S),
            limits=script.limits,
        )
        result = _storable(await self._sandbox.run(job, host))
        if result.ending != "returned":
            return _Run(result, (), access, host)
        try:
            return _Run(result, host.changes(result.effects), access, host)
        except EffectRefused as refusal:
            return _Run(_failed(result, refusal.error), (), access, host)

    async def _commit(self, run: _Run, call: Invocation, outcome: Sequence[Change], fence: Fence | None) -> tuple[Recorded, ...]:
        changes = (*run.changes, *outcome)
        reads = run.access.read_set()
        if not changes:
            if _must_agree(run.result, reads):
                await self._check_reads(call.view.app_id, reads, run.access.now)
            return ()
        if run.result.ending not in _BY_ITS_READS:
            reads = ()
        unit = Unit(app_id=call.view.app_id, metadata=_metadata(call), now=run.access.now, changes=changes, reads=reads, fence=fence)
        return await self._log.append(unit)

    async def _end(
        self, result: RunResult, call: Invocation, outcome: OutcomeChanges, fence: Fence | None, started_at: datetime, began: float, reruns: int, seed: str
    ) -> Outcome:
        """End without effects."""
        duration_s = time.perf_counter() - began
        access = Access(reader=self._reader, app_id=call.view.app_id, principal=call.principal, now=self._clock())
        run = _Run(result, (), access, RunHost(access))
        events = await self._commit(run, call, outcome(result, started_at, duration_s), fence)
        return Outcome(
            ending=result.ending,
            result=result,
            events=events,
            started_at=started_at,
            duration_s=duration_s,
            reruns=reruns,
            seed=seed,
            clock=access.now,
            journal=(),
        )

    async def _modules_of(self, view: AppView, script: ScriptView) -> tuple[Source, ...]:
        """The modules that a script needs, in load order. Worked out once for each combination of versions, in a thread: parsing is slow."""
        if not view.modules or "import" not in script.source:
            return ()
        key = (script.id, script.version, tuple((name, module.version) for name, module in sorted(view.modules.items())))
        known = self._modules.get(key)
        if known is None:
            sources = {name: module.source for name, module in view.modules.items()}
            order = await anyio.to_thread.run_sync(resolve, script.source, sources)
            if len(self._modules) >= _MODULE_SETS_KEPT:
                self._modules.clear()
            known = self._modules[key] = tuple(Source(name, sources[name]) for name in order)
        return known


class _Run(msgspec.Struct, frozen=True):
    """One run: how it ended and what it wants to change."""

    result: RunResult
    changes: tuple[Change, ...]
    access: Access
    host: RunHost


def _must_agree(result: RunResult, reads: Sequence[Read]) -> bool:
    """Whether a run that commits nothing must still have read one state: several reads may be of different moments, and an error may come of that alone."""
    return result.ending in _BY_ITS_READS and len(reads) > 1


def _ctx(call: Invocation) -> dict[str, Any]:
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


def _metadata(call: Invocation) -> Metadata:
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


def _contention() -> RunResult:
    message = "the execution lost to concurrent writers until its time was up"
    return RunResult(ending="contention", error=ScriptError(type="Contention", message=message))


def _storable(result: RunResult) -> RunResult:
    """A script's error ends up in events, records and read models, some of which take no NUL."""
    error = result.error
    if error is None or ("\x00" not in error.message and len(error.message) <= _MAX_MESSAGE_CHARS):
        return result
    message = error.message[:_MAX_MESSAGE_CHARS].replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return msgspec.structs.replace(result, error=msgspec.structs.replace(error, message=message))


def _failed(result: RunResult, error: ScriptError) -> RunResult:
    ending: Ending = "budget" if error.type == "BudgetExceeded" else "raised"
    return msgspec.structs.replace(result, ending=ending, reply=None, effects=(), error=error)


def _refused(result: RunResult, error: PiCloudError) -> RunResult:
    """The log has refused the effects (an increment of something that is no number, too much at once)."""
    kind = "BudgetExceeded" if error.code == "unit_too_large" else "ValueError"
    return _failed(result, ScriptError(type=kind, message=error.detail))
