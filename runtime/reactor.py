"""The reactor: claims due outbox rows as slots get free and runs them side by side.

It is woken by commits, by the next due time, and by nothing else that ticks faster than `_LOOK_AGAIN_S`, for rows whose wake-up was lost with the process
that owed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import anyio
import anyio.abc
import structlog

from adapters.postgres.log import PgLog
from domain.errors import FenceLost, LogClosed, OutcomeUnknown, Throttled
from domain.events import Recorded
from domain.ports import Reader
from domain.sandbox import ScriptError
from projections.outbox.claims import Claim, Claimed, claim, orphans, read_triggers, release, release_all
from projections.outbox.outbox import OUTBOX_GREW
from runtime.dispatch import Dispatcher, Work
from runtime.executor import Invocation, Outcome

_LOOK_AGAIN_S: Final = 1.0
_PAUSE_S: Final = 0.2
_CONTENDED_S: Final = 0.005
_UNREADABLE_PAUSE_S: Final = 30.0
_RECLAIM_AT_ONCE: Final = 100
_FINISH_WITHIN_S: Final = 5.0
_OUR_FAULT: Final = ScriptError(type="InternalError", message="the platform failed to run this execution; its own log says why")
"""Recorded as `worker_lost`, the one reason of the platform's own, for which durable requests are tried again, too."""

log = structlog.get_logger(__name__)

Done = Callable[[Claim, Invocation, Outcome], None]


class Reactor:
    """`slots` rows run at once, at most half of them (but at least one) for one app."""

    def __init__(self, store: PgLog, reader: Reader, dispatcher: Dispatcher, worker_id: UUID, *, slots: int, dead_after_s: float, done: Done) -> None:
        self._store = store
        self._reader = reader
        self._dispatcher = dispatcher
        self._worker_id = worker_id
        self._slots = slots
        self._per_app = max(1, slots // 2)
        self._dead_after_s = dead_after_s
        self._done = done
        self._running: Counter[UUID] = Counter()
        self._wake = anyio.Event()
        self._paused = anyio.Event()
        self._stopping = False

    def committed(self, events: Sequence[Recorded], counts: dict[str, int]) -> None:
        """A commit of this process: look at once when it has added rows."""
        del events
        if counts.get(OUTBOX_GREW):
            self.wake()

    def wake(self) -> None:
        """Look for due rows now."""
        self._wake.set()

    async def run(self) -> None:
        """Claim and run until stopped; then wait for what is running, a while, and give the rest back."""
        async with anyio.create_task_group() as runs:
            while not self._stopping:
                self._wake = anyio.Event()
                claimed = await self._claim()
                if claimed.claims:
                    await self._start(claimed.claims, runs)
                # What was left because slots or shares are taken is claimed when one is given back, which wakes us.
                with anyio.move_on_after(_idle_s(claimed.next_in_s)):
                    await self._wake.wait()
            self._paused.set()
            if self._running:
                log.info("waiting_for_runs", runs=self._running.total(), at_most_s=_FINISH_WITHIN_S)
            with anyio.move_on_after(_FINISH_WITHIN_S):
                while self._running.total():
                    self._wake = anyio.Event()
                    await self._wake.wait()
            runs.cancel_scope.cancel()
        try:
            await release_all(self._reader, self._worker_id)
        except Exception:  # this process leaves next, and rows of workers that are gone are taken back
            log.exception("claims_not_given_back")

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self.wake()

    async def reclaim(self) -> None:
        """Take back the rows of workers that have stopped beating; each spends an attempt."""
        for lost in await orphans(self._reader, self._dead_after_s, _RECLAIM_AT_ONCE):
            try:
                await self._dispatcher.lose(await self._work(lost))
            except (FenceLost, LogClosed):
                continue
            except Throttled:
                return
            except Exception:  # one row that cannot be read must not keep the others from being taken back
                log.exception("row_not_taken_back", app_id=str(lost.app_id), execution_id=str(lost.task.execution_id))
            else:
                log.warning("worker_lost", app_id=str(lost.app_id), execution_id=str(lost.task.execution_id), attempt=lost.attempt)

    async def _claim(self) -> Claimed:
        free = self._slots - self._running.total()
        if free <= 0:
            return Claimed([], None)
        try:
            return await claim(self._reader, self._worker_id, free, self._running, self._per_app)
        except Throttled as error:
            log.warning("claim_failed", error=error.detail)
        except Exception:  # whatever it is, the reactor goes on
            log.exception("claim_failed")
        await anyio.sleep(_PAUSE_S)
        return Claimed([], 0)

    async def _start(self, claimed: list[Claim], runs: anyio.abc.TaskGroup) -> None:
        for held in claimed:
            self._running[held.app_id] += 1
        try:
            works = await self._works(claimed)
        except Exception as error:  # noqa: BLE001  # each is read alone then, and says itself what is wrong with it
            log.warning("claims_not_read", claims=len(claimed), error=str(error))
            for held in claimed:
                runs.start_soon(self._read_and_run, held)
            return
        for work in works:
            runs.start_soon(self._run, work)

    async def _read_and_run(self, held: Claim) -> None:
        """A claim whose cause could not be read among others. What nobody can read (a newer program wrote it) is given back, but not to be tried at once."""
        try:
            work = await self._work(held)
        except Exception as error:
            unreadable = not isinstance(error, Throttled)
            if unreadable:
                log.exception("cause_unreadable", app_id=str(held.app_id), execution_id=str(held.task.execution_id))
            try:
                await self._release(held, _UNREADABLE_PAUSE_S if unreadable else _PAUSE_S)
            finally:
                self._leave(held)
        else:
            await self._run(work)

    async def _run(self, work: Work) -> None:
        held = work.claim
        try:
            ended = await self._dispatcher.run(work)
        except FenceLost as error:
            log.info("claim_lost", execution_id=str(held.task.execution_id), code=error.code)
        except LogClosed:
            await self._release(held, 0)
        except (Throttled, OutcomeUnknown) as error:
            # Not at once: what is away now would be away for the next attempt, too. If the outcome was committed after all, there is no claim to give back.
            log.warning("outcome_not_committed", execution_id=str(held.task.execution_id), error=error.detail)
            await self._release(held, _PAUSE_S)
        except Exception:
            log.exception("dispatch_failed", execution_id=str(held.task.execution_id))
            await self._fail(work)
        else:
            if ended is not None:
                self._done(held, *ended)
        finally:
            self._leave(held)

    async def _fail(self, work: Work) -> None:
        """A fault of ours in running a row must not leave it claimed, nor be tried for ever: it spends an attempt."""
        try:
            await self._dispatcher.lose(work, _OUR_FAULT)
        except FenceLost:
            return
        except Exception:
            log.exception("outcome_not_committed", execution_id=str(work.claim.task.execution_id))
            await self._release(work.claim, _LOOK_AGAIN_S)

    async def _release(self, held: Claim, after_s: float) -> None:
        """Give a claim back after a pause, however long the database stays away: nothing stays claimed for ever.

        When this process ends meanwhile, all its claims are given back.
        """
        with anyio.move_on_after(after_s):
            await self._paused.wait()
        while True:
            try:
                await release(self._reader, held)
            except Exception as error:  # noqa: BLE001  # tried until it is done
                log.warning("claim_not_given_back", execution_id=str(held.task.execution_id), error=str(error))
                await anyio.sleep(_PAUSE_S)
            else:
                return

    def _leave(self, held: Claim) -> None:
        self._running[held.app_id] -= 1
        if not self._running[held.app_id]:
            del self._running[held.app_id]
        self.wake()

    async def _work(self, held: Claim) -> Work:
        return (await self._works([held]))[0]

    async def _works(self, claimed: Sequence[Claim]) -> list[Work]:
        """Claims with their causes and triggers, each in one query for any number of claims, and the events before, one by one."""
        causes = await self._store.read_positions([(held.app_id, held.task.cause_position) for held in claimed])
        wanted = [(held.app_id, held.task.trigger_id) for held in claimed if held.task.trigger_id is not None]
        triggers = await read_triggers(self._reader, wanted) if wanted else {}
        works = []
        for held in claimed:
            cause = causes[held.app_id, held.task.cause_position]
            before = None
            if cause.version > 1 and held.task.trigger_id is not None:
                found = await self._store.read_version(cause.app_id, cause.stream, cause.version - 1)
                before = None if found is None else found.event
            trigger = None if held.task.trigger_id is None else triggers.get(held.task.trigger_id)
            works.append(Work(claim=held, cause=cause, before=before, trigger=trigger))
        return works


def _idle_s(next_in_s: float | None) -> float:
    """How long nothing can be due, unless something wakes us."""
    return _LOOK_AGAIN_S if next_in_s is None else min(max(next_in_s, _CONTENDED_S), _LOOK_AGAIN_S)
