"""One execution is one unit of work: run, collect, commit together with the outcome; when something it has read has changed meanwhile, run again.

A re-run is unseen by the script's author: same execution id, seed, versions and answers of the outside world, a new clock. Re-runs
are bounded by the script's time limit over all of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec

from domain.bounds import UNBOUNDED
from domain.clock import Clock
from domain.errors import Invalid, StorageFull, VersionConflict
from domain.events import Recorded
from domain.modules import resolve
from domain.ports import Appender, CheckReads, Readers, Recall
from domain.sandbox import Job, RunResult, Sandbox, ScriptError, Source
from domain.storage import stored_bytes
from domain.units import Change, Fence, Read, Unit
from projections.control.views import AppView, ScriptView
from runtime.contention import HotStreams, StreamHot
from runtime.host import EffectRefused, RunHost
from runtime.invocation import Invocation, Outcome, context_of, metadata_of
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh
from runtime.outside import Outside
from runtime.redaction import Revealed
from runtime.results import contention, failed, refused, storable
from runtime.seat import Seat
from runtime.seeds import Seeds
from runtime.services import OVERREAD, Access, Resources
from runtime.shares import Shares
from runtime.staging import Staging

_MIN_RERUN_S: Final = 0.01
_MODULE_SETS_KEPT: Final = 512
_BY_ITS_READS: Final = frozenset({"returned", "aborted", "raised"})
"""Endings that what was read may have decided; the others (time, memory, a crash) stand whatever was read."""


OutcomeChanges = Callable[[RunResult, datetime, float], Sequence[Change]]
"""`(result, started_at, duration_s)`: the changes that record a queued execution's outcome beside its effects."""


def no_outcome(result: RunResult, started_at: datetime, duration_s: float) -> Sequence[Change]:
    """Synchronous executions leave no outcome in the log."""
    del result, started_at, duration_s
    return ()


Seated = Callable[[], Awaitable[None]]
"""Called when a run has its seat, perhaps long after it was asked for; what it raises ends the execution without a run and without a commit."""


async def anyway() -> None:
    """Nothing can have made the run needless."""


class Executor:
    """Runs invocations, `seats` of them at once."""

    def __init__(
        self,
        log: Appender,
        readers: Readers,
        recall: Recall,
        check_reads: CheckReads,
        sandbox: Sandbox,
        clock: Clock,
        *,
        seats: int,
        resources: Resources | None = None,
    ) -> None:
        self.log = log
        self.recall = recall
        self.check_reads = check_reads
        self.readers = readers
        self.sandbox = sandbox
        self.clock = clock
        self.hot = HotStreams()
        self.shares = Shares(seats)
        self.seeds = Seeds()
        self.resources = resources or Resources()
        self._modules: dict[tuple[UUID, int, tuple[tuple[str, int], ...]], tuple[Source, ...]] = {}

    async def execute(self, call: Invocation, outcome: OutcomeChanges = no_outcome, fence: Fence | None = None, seated: Seated = anyway) -> Outcome:
        """Run to an ending and commit it.

        The script's own failures are endings, not exceptions. Raises what `seated` raises, Overloaded when a synchronous run has waited for seats as long as
        its time limit, and FenceLost, LogClosed, Unavailable or OutcomeUnknown when the outcome could not be committed; nothing of the execution has
        happened then (or, for OutcomeUnknown, nobody knows yet).
        """
        return await _Execution(self, call, outcome, fence, seated).finish()

    async def modules_of(self, view: AppView, script: ScriptView) -> tuple[Source, ...]:
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


class _Execution:
    """One execution from its first run to its ending."""

    def __init__(self, executor: Executor, call: Invocation, outcome: OutcomeChanges, fence: Fence | None, seated: Seated) -> None:
        self._executor = executor
        self._call = call
        self._outcome = outcome
        self._fence = fence
        self._on_seated = seated
        self._started_at = executor.clock()
        self._began = time.perf_counter()
        self._seat = Seat(executor.shares, call.view.app_id, queued=fence is not None, patience_s=call.timeout_s)
        self._seed = executor.seeds.next()
        self._outside = Outside()
        self._revealed = Revealed()
        self._queues = executor.hot.likely(call.script.id)
        self._held: frozenset[str] = frozenset()
        self._reruns = 0

    async def finish(self) -> Outcome:
        """Run until an ending is committed."""
        while True:
            try:
                return await self._attempt()
            except StreamHot as signal:
                self._requeue(signal.stream)
            except VersionConflict as conflict:
                stream = conflict.extra.get("stream")
                if stream is None:
                    raise
                self._requeue(stream)
            self._reruns += 1
            if self._left_s() < _MIN_RERUN_S:
                return await self._end(contention())

    async def _attempt(self) -> Outcome:
        """One run and its commit, while holding the queues that it was found to need. Raises StreamHot or VersionConflict: it is to be run again."""
        if not self._queues:
            return await self._run_and_commit()
        async with self._in_turn() as is_turn:
            return await self._run_and_commit() if is_turn else await self._end(contention())

    async def _run_and_commit(self) -> Outcome:
        run = await self._run()
        if run.result.ending == "timed_out" and self._reruns:
            return await self._end(contention())  # the time went into the runs before
        try:
            return await self._commit(run)
        except Invalid as error:
            return await self._end(refused(run.result, error))

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[bool]:
        """Hold the queues that this execution needs; False when the time is up first."""
        waiting = anyio.CancelScope(deadline=anyio.current_time() + self._left_s())
        holding = self._executor.hot.hold(self._call.view.app_id, self._queues)
        with waiting:
            await holding.__aenter__()
        if waiting.cancelled_caught:
            yield False
            return
        self._held = frozenset(self._queues)
        try:
            yield True
        finally:
            self._held = frozenset()
            await holding.__aexit__(None, None, None)

    def _requeue(self, stream: str) -> None:
        self._queues.add(stream)
        self._executor.hot.lost(self._call.script.id, stream)

    def _left_s(self) -> float:
        """What is left of the time limit over all runs; waiting for a seat does not count."""
        return self._call.timeout_s - (time.perf_counter() - self._began - self._seat.idle_s)

    def _about_to_read(self, stream: str) -> None:
        """Raise StreamHot when others queue for a stream that this run does not hold."""
        if stream not in self._held and self._executor.hot.is_hot(self._call.view.app_id, stream):
            raise StreamHot(stream)

    async def _run(self) -> _Run:
        call, executor = self._call, self._executor
        now, blobs = executor.clock(), executor.resources.blobs
        # Who has lost because of what was remembered would lose again: a re-run reads.
        remembered = None if self._reruns else partial(executor.recall, call.view.app_id)
        self._outside.begin()
        access = Access(
            reader=executor.readers(call.view.app_id),
            app_id=call.view.app_id,
            principal=call.principal,
            now=now,
            execution_id=call.execution_id,
            scripts=call.view.scripts,
            script_id=call.script.id,
            resources=executor.resources,
            outside=self._outside,
            revealed=self._revealed,
            about_to_read=self._about_to_read,
            remembered=remembered,
            files=None if blobs is None else Staging(blobs, call.script.limits.memory_mib),
        )
        host = RunHost(access, self._seat.left)
        try:
            modules = await executor.modules_of(call.view, call.script)
        except Invalid as error:
            result = RunResult(ending="invalid", error=ScriptError(type="ImportError", message=error.detail))
            return _Run(result, (), access, host)
        await self._seat.take()
        try:
            await self._on_seated()
            job = Job(
                app_id=call.view.app_id,
                script=Source(call.script.name, call.script.source),
                modules=modules,
                ctx=context_of(call),
                clock=now,
                seed=self._seed,
                timeout_s=max(self._left_s(), _MIN_RERUN_S),
                limits=call.script.limits,
                denied=host.denied(),
            )
            result = storable(await executor.sandbox.run(job, host))
        finally:
            self._seat.leave()
        if access.overread:  # whether or not the script has caught it
            result = failed(result, ScriptError(type="BudgetExceeded", message=OVERREAD))
        if result.ending != "returned":
            return _Run(result, (), access, host)
        try:
            changes = await host.changes(result.effects)
            await self._admit_bytes(changes)
        except EffectRefused as refusal:
            return _Run(failed(result, refusal.error), (), access, host)
        except StorageFull as refusal:
            return _Run(failed(result, ScriptError(type="BudgetExceeded", message=refusal.detail)), (), access, host)
        return _Run(result, changes, access, host)

    async def _admit_bytes(self, changes: Sequence[Change]) -> None:
        """Raise StorageFull when the app may not store what these changes would."""
        view, admit = self._call.view, self._executor.resources.admit_bytes
        if view.bounds is UNBOUNDED or admit is None:
            return
        size = stored_bytes(change.effect for change in changes)
        if size:
            await admit(view.app_id, view.bounds, size)

    async def _commit(self, run: _Run) -> Outcome:
        call, executor = self._call, self._executor
        run = await self._redacted(run)
        duration_s = time.perf_counter() - self._began
        changes = (*run.changes, *self._outcome(run.result, self._started_at, duration_s))
        reads = run.access.read_set()
        events: tuple[Recorded, ...] = ()
        ended = time.perf_counter()
        if not changes:
            if run.result.ending in _BY_ITS_READS and run.host.reads_may_differ(reads):
                await executor.check_reads(call.view.app_id, reads, run.access.now)
        else:
            if run.result.ending not in _BY_ITS_READS:
                reads = ()
            unit = Unit(app_id=call.view.app_id, metadata=metadata_of(call), now=run.access.now, changes=changes, reads=reads, fence=self._fence)
            events = await executor.log.append(unit)
        executor.hot.ran(call.view.app_id, call.script.id, _touched(reads, run.changes))
        return self._ended(run, events, duration_s, time.perf_counter() - ended)

    async def _redacted(self, run: _Run) -> _Run:
        """The run without the secrets that it has read: nothing that is kept of it has seen them."""
        if not self._revealed:
            return run
        result, with_reply = run.result, self._fence is not None
        kept = [(line.message, line.data) for line in result.logs], result.reply.body if with_reply and result.reply is not None else b""
        size = weigh(kept, MAX_ON_LOOP_BYTES) * len(self._revealed)
        result = await off_loop(size, lambda: self._revealed.result(run.result, with_reply=with_reply))
        return msgspec.structs.replace(run, result=result)

    async def _end(self, result: RunResult) -> Outcome:
        """End without effects."""
        call, executor = self._call, self._executor
        access = Access(
            reader=executor.readers(call.view.app_id),
            app_id=call.view.app_id,
            principal=call.principal,
            now=executor.clock(),
            execution_id=call.execution_id,
            script_id=call.script.id,
        )
        return await self._commit(_Run(result, (), access, RunHost(access)))

    def _ended(self, run: _Run, events: tuple[Recorded, ...], duration_s: float, commit_s: float) -> Outcome:
        return Outcome(
            ending=run.result.ending,
            result=run.result,
            events=events,
            started_at=self._started_at,
            duration_s=duration_s,
            reruns=self._reruns,
            queue_s=self._seat.idle_s,
            commit_s=commit_s,
            seed=self._seed,
            clock=run.access.now,
            journal=tuple(run.host.journal),
            revealed=self._revealed,
        )


def _touched(reads: Iterable[Read], changes: Iterable[Change]) -> list[str]:
    return [*(read.stream for read in reads), *(change.effect.stream for change in changes)]
