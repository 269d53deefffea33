"""Group commit: one task per process judges whatever has gathered and commits it as one batch while the next gathers. No timers.

The usual batch is one round trip on the main lane (see `batch`). Apps whose head another process moves or holds, and batches that PostgreSQL refuses, are
finished in `held`, each app in a task and on a lane of its own; the main lane goes on with the others meanwhile.

Whoever waits for a unit gets an answer within bounds: it is judged and committed, refused, or given up after `GIVE_UP_AFTER_S`; the statement under way
ends by its timeout and the look-up of its outcome by its own. Cancelling the tasks around the writer does not interrupt it: it ends when it is closed and
has finished, or after `CLOSE_WITHIN_S`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import asyncpg
import structlog

from adapters.postgres.batch import FENCE_LOST, HEAD_MOVED
from adapters.postgres.connect import LOST, is_servers_fault, unavailable
from adapters.postgres.held import HeldApps
from adapters.postgres.judging import Judged, Judging
from adapters.postgres.lane import Counts, Done, Lane, NotCommitted, Stale, head_from
from adapters.postgres.pending import Pending, pending_unit, refuse
from domain.errors import FenceLost, OutcomeUnknown, PiCloudError, Unavailable
from domain.events import Recorded
from domain.judge import Head
from domain.statements import load_sql
from domain.units import Unit

_SQL: Final = load_sql("adapters.postgres", "log.sql")
MAX_BATCH_UNITS: Final = 256
MAX_BATCH_CHANGES: Final = 4096
MAX_OPEN_UNITS: Final = 20_000
GIVE_UP_AFTER_S: Final = 20.0
CLOSE_WITHIN_S: Final = 10.0
_PAUSE_S: Final = 0.05
_ATTEMPTS: Final = 3

log = structlog.get_logger(__name__)

Committed = Callable[[Sequence[Recorded], Counts], None]


class Writer:
    """Takes units, hands back their events or their refusal. `committed` is called after each commit with its events and counts."""

    def __init__(self, dsn: str, judging: Judging, committed: Committed) -> None:
        self._judging = judging
        self._committed = committed
        self._lane = Lane(dsn)
        self._queue: deque[Pending] = deque()
        self._open: set[Pending] = set()
        self._wake = asyncio.Event()
        self._scope = anyio.CancelScope(shield=True)
        self._closing = False
        self._held = HeldApps(partial(Lane, dsn), judging, self.settle)

    @property
    def looked_up(self) -> int:
        """How many outcomes had to be looked up."""
        return self._lane.looked_up + self._held.looked_up

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """Append a unit; returns its events once they are durable. Raises the PiCloudError that refuses it."""
        if self._closing or len(self._open) >= MAX_OPEN_UNITS:
            raise Unavailable("the log is closing" if self._closing else "too many units are waiting to be appended", retry_after_s=1.0)
        pending = pending_unit(unit, GIVE_UP_AFTER_S)
        self._open.add(pending)
        self._queue.append(pending)
        self._wake.set()
        try:
            return await pending.verdict
        finally:
            self._open.discard(pending)

    async def run(self) -> None:
        """Commit until closed; then finish what has been accepted. Runs in a task of its own."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    self._held.start(tasks)
                    while not self._closing or self._queue:
                        await self._next()
        finally:
            self._closing = True
            for pending in self._open:
                refuse([pending], OutcomeUnknown if pending.sent else _stopped)
            with anyio.CancelScope(shield=True):
                await self._lane.close()
                await self._held.close()

    def close(self) -> None:
        """Accept nothing more and let `run` return when all that was accepted has its verdict."""
        self._closing = True
        self._scope.deadline = anyio.current_time() + CLOSE_WITHIN_S
        self._wake.set()

    def settle(self, judged: Judged, done: Done) -> None:
        """Tell everybody what came of a batch that is committed (or had nothing to commit)."""
        for pending, verdict in judged.verdicts:
            pending.settle(verdict)
        self._judging.advance(judged, done.at)
        if judged.events:
            self._committed(judged.events, done.counts)

    async def _next(self) -> None:
        if not self._queue:
            self._wake.clear()
            await self._wake.wait()
            return
        batch = self._take()
        if batch:
            await self._commit(batch)

    def _take(self) -> list[Pending]:
        """The next batch: units of apps that are free; the others' are finished elsewhere."""
        batch: list[Pending] = []
        changes = 0
        while self._queue and len(batch) < MAX_BATCH_UNITS and changes < MAX_BATCH_CHANGES:
            pending = self._queue.popleft()
            if self._held.wants(pending.unit.app_id):
                self._held.give(pending.unit.app_id, [pending])
            else:
                batch.append(pending)
                changes += len(pending.unit.changes)
        return batch

    async def _commit(self, batch: Sequence[Pending]) -> None:
        """One batch on the main lane; whatever cannot be finished there is held."""
        try:
            judged = await self._judging.judge(self._lane, batch, may_guess=all(pending.attempts == 0 for pending in batch))
            self._queue.extendleft(reversed(judged.left))
            batch = batch[: len(judged.verdicts)]
            done = await self._send(batch, judged)
        except (*LOST, NotCommitted) as error:
            await self._later(batch, error)
        except Stale as stale:
            await self._sort_out(batch, judged, stale)
        except OutcomeUnknown:
            self._forget(batch)
            refuse(batch, OutcomeUnknown)
        except asyncpg.PostgresError as error:
            if is_servers_fault(error):
                await self._later(batch, error)
            else:
                self._hold(batch)
        except Exception:  # in an event that cannot be decoded, or in a projection: held, the culprit is refused alone
            log.exception("batch_could_not_be_judged", units=len(batch))
            self._hold(batch)
        else:
            self.settle(judged, done)

    async def _send(self, batch: Sequence[Pending], judged: Judged) -> Done:
        if not judged.batch.writes():
            return Done({})
        for pending in batch:
            pending.sent = True
        return await self._lane.commit(judged.batch)

    async def _sort_out(self, batch: Sequence[Pending], judged: Judged, stale: Stale) -> None:
        """Some assumption of a batch did not hold: refuse zombies, hold the apps whose heads are not free as they were, and try the rest again."""
        try:
            if str(stale) == HEAD_MOVED:
                await self._hold_moved(batch, judged)
            elif str(stale) == FENCE_LOST:
                await self._refuse_zombies(batch)
            else:
                self._judging.guessed_wrong()
                self._forget(batch)
        except (*LOST, asyncpg.PostgresError) as error:
            await self._later(batch, error)
            return
        rest = [pending for pending in batch if not pending.settled and not self._held.wants(pending.unit.app_id)]
        if any(pending.attempts >= _ATTEMPTS for pending in rest):
            self._hold(rest)
        else:
            self._again(rest)

    async def _hold_moved(self, batch: Sequence[Pending], judged: Judged) -> None:
        moves = judged.batch.heads
        free: dict[UUID, Head] = {}
        if len(moves) > 1:
            rows = await self._lane.fetch(_SQL["free_heads"], [move.app_id for move in moves])
            free = {row["app_id"]: head_from(row) for row in rows}
        gone = {move.app_id for move, states in zip(moves, judged.moving, strict=True) if free.get(move.app_id) != states.head}
        self._hold([pending for pending in batch if pending.unit.app_id in gone])

    async def _refuse_zombies(self, batch: Sequence[Pending]) -> None:
        fences = [(pending.unit.app_id, pending.unit.fence) for pending in batch if pending.unit.fence is not None]
        lost = await self._judging.lost_fences(self._lane, fences)
        refuse((pending for pending in batch if pending.unit.fence in lost), FenceLost)

    async def _later(self, batch: Sequence[Pending], error: BaseException) -> None:
        """The database is away or busy; nothing of the batch was committed. Queue it again, and give up on what has waited too long."""
        self._lane.terminate()
        self._forget(batch)
        now = asyncio.get_running_loop().time()
        refuse((pending for pending in batch if pending.gives_up_at <= now), partial(unavailable, error))
        self._again([pending for pending in batch if not pending.settled])
        await anyio.sleep(_PAUSE_S)

    def _again(self, batch: Sequence[Pending]) -> None:
        for pending in batch:
            pending.attempts += 1
            pending.sent = False
        self._queue.extendleft(reversed(batch))

    def _hold(self, batch: Sequence[Pending]) -> None:
        by_app: dict[UUID, list[Pending]] = {}
        for pending in batch:
            pending.sent = False
            by_app.setdefault(pending.unit.app_id, []).append(pending)
        for app_id, units in by_app.items():
            self._held.give(app_id, units)

    def _forget(self, batch: Sequence[Pending]) -> None:
        self._judging.forget({pending.unit.app_id for pending in batch})


def _stopped() -> PiCloudError:
    return Unavailable("the log's writer has stopped", retry_after_s=1.0)
