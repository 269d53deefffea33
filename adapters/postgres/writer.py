"""Group commit: one task per process judges whatever has gathered and commits it as one batch while the next gathers. No timers.

The usual batch is one statement on the main lane (see `batch`). When a head has moved under it (another process writes to the same app) or a unit needs more than one
stage, each app of that batch is finished on a lane of its own, in a transaction that holds the app's head; the main lane goes on with the others meanwhile, so an app
whose head is held elsewhere stalls nobody else.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from uuid import UUID

import anyio
import anyio.abc
import asyncpg
import structlog

from adapters.postgres.connect import LOST, unavailable
from adapters.postgres.judging import Judged, Judging, Pending
from adapters.postgres.lane import Counts, Lane, NotCommitted
from domain.errors import Contention, OutcomeUnknown, PiCloudError, Unavailable
from domain.events import Recorded
from domain.units import Unit

MAX_BATCH_UNITS: Final = 256
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
MAX_QUEUED_UNITS: Final = 20_000
_ATTEMPTS: Final = 5
_SINGLE_FOR_BATCHES: Final = 32

log = structlog.get_logger(__name__)


Committed = Callable[[Sequence[Recorded], Counts], None]


class Writer:
    """Takes units, hands back their events or their refusal. `committed` is called after each commit with its events and counts."""

    def __init__(self, dsn: str, judging: Judging, committed: Committed) -> None:
        self._dsn = dsn
        self._judging = judging
        self._committed = committed
        self._queue: deque[Pending] = deque()
        self._wake = asyncio.Event()
        self._busy: dict[UUID, deque[Pending]] = {}
        self._contended: dict[UUID, int] = {}
        self._idle_lanes: list[Lane] = []
        self._under_way: list[Pending] = []
        self._closing = False

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """Append a unit; returns its events once they are durable. Raises the PiCloudError that refuses it."""
        if self._closing or len(self._queue) >= MAX_QUEUED_UNITS:
            raise Unavailable("the log is closing" if self._closing else "too many units are waiting to be appended", retry_after_s=1.0)
        verdict: asyncio.Future[tuple[Recorded, ...]] = asyncio.get_running_loop().create_future()
        self._queue.append(Pending(unit, verdict))
        self._wake.set()
        return await verdict

    async def run(self) -> None:
        """Commit until closed; then finish what has been accepted. Runs in a task of its own."""
        lane = Lane(self._dsn)
        try:
            async with anyio.create_task_group() as lanes:
                while not self._closing or self._queue:
                    if not self._queue:
                        self._wake.clear()
                        await self._wake.wait()
                        continue
                    await self._commit(lane, self._take(lanes), lanes)
                    self._under_way = []
        except BaseException:
            self._refuse_all()
            raise
        finally:
            for idle in (lane, *self._idle_lanes):
                await idle.close()

    def close(self) -> None:
        """Accept nothing more and let `run` return when the queue is empty."""
        self._closing = True
        self._wake.set()

    def _refuse_all(self) -> None:
        """The writer is going down: nobody may wait for it for ever. What was under way is not in the queue; its callers see the same error."""
        self._closing = True
        for waiting in (self._queue, *self._busy.values(), self._under_way):
            _refuse(waiting, Unavailable("the log's writer has stopped", retry_after_s=1.0))

    def _take(self, lanes: anyio.abc.TaskGroup) -> list[Pending]:
        """The next batch: units of apps that have no lane of their own; the others' units go there."""
        batch: list[Pending] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH_UNITS and size < MAX_BATCH_BYTES:
            pending = self._queue.popleft()
            app_id = pending.unit.app_id
            if app_id in self._busy:
                self._busy[app_id].append(pending)
            elif self._contended.get(app_id):
                self._divert(app_id, [pending], lanes)
            else:
                batch.append(pending)
                size += _weight(pending.unit)
        return batch

    def _divert(self, app_id: UUID, units: Sequence[Pending], lanes: anyio.abc.TaskGroup) -> None:
        if app_id in self._busy:
            self._busy[app_id].extend(units)
        else:
            self._busy[app_id] = deque(units)
            lanes.start_soon(self._serve_app, app_id)

    async def _commit(self, lane: Lane, batch: list[Pending], lanes: anyio.abc.TaskGroup) -> None:
        """One batch on the main lane; whatever cannot be finished there goes to lanes of its own."""
        self._under_way = batch
        if not batch:
            return
        try:
            judged = await self._judging.judge(lane, batch)
        except (*LOST, asyncpg.PostgresError) as error:
            await self._retry_later(lane, batch, error)
            return
        if not judged.batch.heads:
            self._settle(judged, {})
            return
        if len(judged.batch.stages) > 1:
            self._divert_all(batch, lanes)
            return
        try:
            counts = await lane.commit(judged.batch)
        except NotCommitted:
            self._divert_all(batch, lanes)
        except asyncpg.PostgresError:
            self._divert_all(batch, lanes)
        except LOST as error:
            await self._retry_later(lane, batch, error)
        except OutcomeUnknown as error:
            self._judging.forget({pending.unit.app_id for pending in batch})
            _refuse(batch, error)
        else:
            self._settle(judged, counts)

    def _divert_all(self, batch: Sequence[Pending], lanes: anyio.abc.TaskGroup) -> None:
        by_app: defaultdict[UUID, list[Pending]] = defaultdict(list)
        for pending in batch:
            by_app[pending.unit.app_id].append(pending)
        self._judging.forget(by_app)
        for app_id, units in by_app.items():
            self._divert(app_id, units, lanes)

    async def _retry_later(self, lane: Lane, batch: Sequence[Pending], error: BaseException) -> None:
        """The database is away: nothing of the batch was sent for commit. Queue it again, up to a limit."""
        lane.terminate()
        self._judging.forget({pending.unit.app_id for pending in batch})
        for pending in reversed(batch):
            pending.attempts += 1
            if pending.attempts >= _ATTEMPTS:
                _refuse([pending], unavailable(error))
            else:
                self._queue.appendleft(pending)
        await anyio.sleep(0.05)

    async def _serve_app(self, app_id: UUID) -> None:
        """Finish one app's units, and those that arrive meanwhile, holding its head for each batch."""
        lane = self._idle_lanes.pop() if self._idle_lanes else Lane(self._dsn)
        try:
            while self._busy[app_id]:
                units = [self._busy[app_id].popleft() for _ in range(min(MAX_BATCH_UNITS, len(self._busy[app_id])))]
                await self._commit_held(lane, app_id, units)
        finally:
            self._queue.extend(self._busy.pop(app_id))
            self._wake.set()
            self._idle_lanes.append(lane)

    async def _commit_held(self, lane: Lane, app_id: UUID, units: list[Pending]) -> None:
        """One app's batch in a transaction that holds its head; when PostgreSQL refuses it, unit by unit."""
        try:
            head = await lane.begin(app_id)
            moved = self._judging.meet(app_id, head)
            judged = await self._judging.judge(lane, units, held=True)
            if not judged.batch.heads:
                await lane.roll_back()
                counts: Counts = {}
            else:
                counts = await lane.commit_begun(judged.batch)
        except NotCommitted as error:
            self._again(app_id, units, error)
        except LOST as error:
            lane.terminate()
            self._again(app_id, units, error)
            await anyio.sleep(0.05)
        except OutcomeUnknown as error:
            self._judging.forget((app_id,))
            _refuse(units, error)
        except asyncpg.PostgresError as error:
            await lane.roll_back()
            self._judging.forget((app_id,))
            await self._one_by_one(lane, app_id, units, error)
        else:
            self._note_contention(app_id, moved=moved)
            self._settle(judged, counts)

    async def _one_by_one(self, lane: Lane, app_id: UUID, units: list[Pending], error: asyncpg.PostgresError) -> None:
        """Only the unit that fails alone is refused."""
        if len(units) == 1:
            log.error("unit_refused_by_postgres", app_id=str(app_id), unit_id=str(units[0].unit.unit_id), error=str(error), sqlstate=error.sqlstate)
            _refuse(units, PiCloudError("the change could not be stored", code="storage_refused"))
            return
        for pending in units:
            await self._commit_held(lane, app_id, [pending])

    def _again(self, app_id: UUID, units: Sequence[Pending], error: BaseException) -> None:
        self._judging.forget((app_id,))
        for pending in reversed(units):
            pending.attempts += 1
            if pending.attempts >= _ATTEMPTS * 4:
                contended = isinstance(error, NotCommitted)
                _refuse([pending], Contention(retry_after_s=1.0) if contended else unavailable(error))
            else:
                self._busy[app_id].appendleft(pending)

    def _note_contention(self, app_id: UUID, *, moved: bool) -> None:
        """While another process moves this app's head, hold it straight away instead of failing on the main lane first."""
        left = _SINGLE_FOR_BATCHES if moved else self._contended.get(app_id, 0) - 1
        if left > 0:
            self._contended[app_id] = left
        else:
            self._contended.pop(app_id, None)

    def _settle(self, judged: Judged, counts: Counts) -> None:
        self._judging.advance(judged)
        if judged.events:
            self._committed(judged.events, counts)
        for pending, outcome in judged.verdicts:
            if pending.verdict.done():
                continue
            if isinstance(outcome, PiCloudError):
                pending.verdict.set_exception(outcome)
            else:
                pending.verdict.set_result(outcome)


def _weight(unit: Unit) -> int:
    return 256 * len(unit.changes)


def _refuse(batch: Iterable[Pending], error: PiCloudError) -> None:
    for pending in batch:
        if not pending.verdict.done():
            pending.verdict.set_exception(error)
