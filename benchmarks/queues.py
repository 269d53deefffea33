"""A queue as the benchmarks see one, and PiCloud's outbox and reactor as such. Those of others are in `peers`.

A job is a number. `enqueue` returns when the job is durable; every queue calls `started(number)` when its handler begins, and `finished()` as soon as
it can be said to be through with it. That is the committed outcome for PiCloud, and for the others already the handler's end, which favours them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol

import anyio

from adapters.postgres.connect import open_pool
from adapters.postgres.mapper import StructMapper
from adapters.postgres.readcheck import ReadCheck
from adapters.postgres.reader import PgReader
from adapters.sandbox import SandboxSettings
from benchmarks.seeding import Seeder, append, set_key
from domain.authz import SYSTEM, Principal
from domain.events import Recorded
from domain.executions import ExecutionSucceeded
from domain.registry import EVENTS, RULES
from domain.sandbox import Diagnostic, Host, Job, Reply, RunResult, Sandbox, SandboxStatus, ScriptKind, Source
from projections.outbox.claims import Claim
from runtime.dispatch import Dispatcher
from runtime.executor import Executor
from runtime.invocation import Invocation, Outcome
from runtime.platform import REACTOR_SLOTS_PER_SANDBOX_SLOT, Platform, open_platform
from runtime.reactor import Reactor
from runtime.records import record_of
from runtime.settings import load_settings

NOOP_SCRIPT: Final = "def handler(ctx):\n    return None\n"
_COLLECTION: Final = "jobs"

Started = Callable[[int], None]
Finished = Callable[[], None]
OpenQueue = Callable[[str, Started, Finished], AbstractAsyncContextManager["Queue"]]
"""`open(dsn, started, finished)` on a prepared PiCloud database, in which others make their own tables."""


class Queue(Protocol):
    """A queue in a database of its own."""

    async def enqueue(self, number: int) -> None: ...
    async def enqueue_many(self, numbers: range) -> None: ...
    def consume(self) -> AbstractAsyncContextManager[None]:
        """Handle jobs while the context lasts."""
        ...

    async def left(self) -> int:
        """Jobs that are still queued."""
        ...

    async def check(self, count: int) -> None:
        """Raise AssertionError unless the database, too, knows of exactly `count` jobs done."""
        ...


class Noop:
    """A sandbox that runs nothing: what is measured with it is everything else."""

    async def run(self, job: Job, host: Host) -> RunResult:
        return RunResult(ending="returned", reply=Reply(204, {}, b""))

    async def check(self, kind: ScriptKind, script: Source, modules: tuple[Source, ...] = ()) -> list[Diagnostic]:
        return []

    def status(self) -> SandboxStatus:
        return SandboxStatus(workers=0, hardening={})


class Watched:
    """A sandbox that says which job it is given."""

    def __init__(self, inner: Sandbox, started: Started) -> None:
        self._inner = inner
        self._started = started

    async def run(self, job: Job, host: Host) -> RunResult:
        self._started(job.ctx["event"]["kv"]["value"])
        return await self._inner.run(job, host)

    async def check(self, kind: ScriptKind, script: Source, modules: tuple[Source, ...] = ()) -> list[Diagnostic]:
        return await self._inner.check(kind, script, modules)

    def status(self) -> SandboxStatus:
        return self._inner.status()


class PiCloudQueue:
    """A KV write that matches a trigger is the job. Platform, reactor, dispatcher and executor are the real ones; the sandbox is as said."""

    def __init__(self, platform: Platform, background: PgReader, seeder: Seeder, sandbox: Sandbox, started: Started, finished: Finished) -> None:
        self._platform = platform
        self._background = background
        self._seeder = seeder
        self._reader = platform.reader
        self._finished = finished
        check_reads = ReadCheck(platform.app_readers, RULES, StructMapper(EVENTS).decode)
        seats = SandboxSettings(slots=platform.settings.sandbox.slots).in_flight
        executor = Executor(platform.appender, platform.app_readers, platform.log.recall, check_reads, Watched(sandbox, started), platform.clock, seats=seats)
        self._dispatcher = Dispatcher(platform.appender, executor, platform.directory, _principal_of, platform.quotas, platform.clock, platform.ceiling)
        self._reactor: Reactor | None = None
        platform.log.on_commit(self._committed)

    async def enqueue(self, number: int) -> None:
        await append(self._platform.appender, self._seeder.app_id, set_key(_COLLECTION, number))

    async def enqueue_many(self, numbers: range) -> None:
        await self._seeder.keys(_COLLECTION, numbers)

    @asynccontextmanager
    async def consume(self) -> AsyncIterator[None]:
        settings = self._platform.settings
        slots = settings.sandbox.slots * REACTOR_SLOTS_PER_SANDBOX_SLOT
        self._reactor = reactor = Reactor(
            self._platform.log,
            self._background,
            self._dispatcher,
            self._platform.directory,
            self._platform.worker_id,
            slots=slots,
            dead_after_s=settings.process.dead_s,
            done=self._done,
        )
        self._platform.log.claim_for(reactor)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reactor.run)
            try:
                yield
            finally:
                reactor.stop()
        self._reactor = None

    def _committed(self, events: Sequence[Recorded], counts: dict[str, int]) -> None:
        if self._reactor is not None:
            self._reactor.committed(events, counts)

    def _done(self, held: Claim, call: Invocation, outcome: Outcome) -> None:
        assert outcome.ending == "returned", outcome
        self._platform.records.add(record_of(call, outcome, held.task.source, held.task.trigger_id))
        self._finished()

    async def left(self) -> int:
        rows = await self._reader.fetch("SELECT count(*) AS rows FROM outbox")
        return int(rows[0]["rows"])

    async def check(self, count: int) -> None:
        sql = "SELECT count(*) AS events, count(DISTINCT originator_id) AS executions FROM events WHERE topic = $1"
        rows = await self._reader.fetch(sql, ExecutionSucceeded.TOPIC)
        assert (rows[0]["events"], rows[0]["executions"]) == (count, count), rows


@asynccontextmanager
async def open_picloud(
    dsn: str, started: Started, finished: Finished, *, real_sandbox: bool, other_triggers: Sequence[str] = (), events_before: int = 0
) -> AsyncIterator[Queue]:
    """On a prepared database. The platform's own reactor stays off; ours differs from it in the sandbox alone.

    `other_triggers` are patterns that no job matches, `events_before` writes that no trigger does.
    """
    settings = load_settings({"PICLOUD_ROLES": "web"})
    async with open_pool(dsn, 4, synchronous_commit="off") as background, open_platform(dsn, settings) as platform:
        seeder = Seeder(platform)
        await seeder.app()
        await seeder.triggers(await seeder.script(NOOP_SCRIPT), [_COLLECTION, *other_triggers])
        await seeder.keys("before", range(events_before))
        yield PiCloudQueue(platform, PgReader(background), seeder, platform.sandbox if real_sandbox else Noop(), started, finished)


async def _principal_of(actor: str) -> Principal | None:
    assert actor == SYSTEM.actor
    return SYSTEM


PICLOUD: dict[str, OpenQueue] = {
    "PiCloud, no-op runner": partial(open_picloud, real_sandbox=False),
    "PiCloud, sandbox": partial(open_picloud, real_sandbox=True),
}
