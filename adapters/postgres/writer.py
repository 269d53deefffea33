"""Group commit: one task per process judges whatever has gathered and commits it as one batch while the next gathers. No timers.

The usual batch is one round trip on the main lane (see `batch`). Apps whose head another process moves or holds, and batches that PostgreSQL refuses, are
finished in `turns`, each app in a task and on a lane of its own; the main lane goes on with the others meanwhile.

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

from adapters.postgres.births import Births
from adapters.postgres.committer import Committer
from adapters.postgres.judging import Judged, Judging
from adapters.postgres.lane import Counts, Done, Lane, head_from
from adapters.postgres.pending import Pending, pending_unit, refuse
from adapters.postgres.turns import Turns
from domain.errors import OutcomeUnknown, PiCloudError, Unavailable
from domain.events import Recorded
from domain.judge import Head
from domain.statements import load_sql
from domain.units import Stream, Unit

_SQL: Final = load_sql("adapters.postgres", "log.sql")
MAX_BATCH_UNITS: Final = 256
MAX_BATCH_CHANGES: Final = 4096
MAX_OPEN_UNITS: Final = 20_000
GIVE_UP_AFTER_S: Final = 20.0
CLOSE_WITHIN_S: Final = 10.0
_ATTEMPTS: Final = 3

Committed = Callable[[Judged, Counts], None]


class Writer(Committer):
    """Takes units, hands back their events or their refusal. `committed` is called after each commit with what was judged and counts."""

    def __init__(self, dsn: str, judging: Judging, births: Births, committed: Committed) -> None:
        super().__init__(judging, births, self.settle)
        self._committed = committed
        self._lane = Lane(dsn)
        self._queue: deque[Pending] = deque()
        self._open: set[Pending] = set()
        self._wake = asyncio.Event()
        self._scope = anyio.CancelScope(shield=True)
        self._closing = False
        self._turns = Turns(partial(Lane, dsn), judging, births, self.settle)

    @property
    def looked_up(self) -> int:
        """How many outcomes had to be looked up."""
        return self._lane.looked_up + self._turns.looked_up

    def recall(self, app_id: UUID, stream: str, at_least: int) -> Stream | None:
        """See `Judging.recall`."""
        return self._judging.recall(app_id, stream, at_least)

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """Append a unit; returns its events once they are durable. Raises the PiCloudError that refuses it."""
        if self._closing or len(self._open) >= MAX_OPEN_UNITS:
            raise Unavailable("the log is closing" if self._closing else "too many units are waiting to be appended", retry_after_s=1.0)
        pending = pending_unit(unit, GIVE_UP_AFTER_S)
        self._open.add(pending)
        if self._turns.has(unit.app_id):
            self._turns.give(unit.app_id, [pending])
        else:
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
                    self._turns.start(tasks)
                    while not self._closing or self._queue:
                        await self._next()
        finally:
            self._closing = True
            for pending in self._open:
                refuse([pending], OutcomeUnknown if pending.sent else _stopped)
            with anyio.CancelScope(shield=True):
                await self._lane.close()
                await self._turns.close()

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
            self._committed(judged, done.counts)
        self._births.take(judged, done)

    async def _next(self) -> None:
        if not self._queue:
            self._wake.clear()
            await self._wake.wait()
            return
        await asyncio.sleep(0)  # whoever is ready now has a unit for this batch, too
        batch = self._take()
        if batch:
            await self._commit(self._lane, batch)

    def _take(self) -> list[Pending]:
        """The next batch: units of apps that do not take turns; the others' are finished there."""
        batch: list[Pending] = []
        changes = 0
        while self._queue and len(batch) < MAX_BATCH_UNITS and changes < MAX_BATCH_CHANGES:
            pending = self._queue.popleft()
            if self._turns.has(pending.unit.app_id):
                self._turns.give(pending.unit.app_id, [pending])
            else:
                batch.append(pending)
                changes += len(pending.unit.changes)
        return batch

    def _again(self, units: Sequence[Pending]) -> None:
        self._queue.extendleft(reversed(units))

    async def _moved(self, lane: Lane, units: Sequence[Pending], judged: Judged) -> Sequence[Pending]:
        """Whose head is not free as it was takes turns from now on; the others' units are tried again without them."""
        moves = judged.batch.heads
        free: dict[UUID, Head] = {}
        if len(moves) > 1:
            rows = await lane.fetch(_SQL["free_heads"], [move.app_id for move in moves])
            free = {row["app_id"]: head_from(row) for row in rows}
        gone = {move.app_id for move, states in zip(moves, judged.moving, strict=True) if free.get(move.app_id) != states.head}
        if units[0].attempts >= _ATTEMPTS:  # heads that are held for an instant, again and again
            gone = {move.app_id for move in moves}
        self._give([pending for pending in units if pending.unit.app_id in gone])
        return [pending for pending in units if pending.unit.app_id not in gone]

    async def _isolate(self, lane: Lane, units: Sequence[Pending], error: Exception) -> None:
        self._give(units)

    def _give(self, units: Sequence[Pending]) -> None:
        by_app: dict[UUID, list[Pending]] = {}
        for pending in units:
            pending.sent = False
            by_app.setdefault(pending.unit.app_id, []).append(pending)
        for app_id, group in by_app.items():
            self._turns.give(app_id, group)


def _stopped() -> PiCloudError:
    return Unavailable("the log's writer has stopped", retry_after_s=1.0)
