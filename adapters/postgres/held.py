"""Apps whose units are committed under their head's lock, each in a task of its own.

They are those that another process writes to as well, and those whose batch PostgreSQL refused. Each batch takes the head first and so waits its turn; judged
and committed while it is held, it cannot be overtaken. When PostgreSQL refuses a batch, its units are tried singly: only the one that fails alone is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import anyio.abc
import asyncpg
import structlog

from adapters.postgres.connect import LOST, is_servers_fault, unavailable
from adapters.postgres.judging import Judged, Judging
from adapters.postgres.lane import Done, Lane, NotCommitted, Stale
from adapters.postgres.pending import Pending, refuse
from domain.errors import Contention, OutcomeUnknown, PiCloudError

MAX_BATCH_UNITS: Final = 256
MAX_LANES: Final = 8
_KEPT_LANES: Final = 2
_HOLD_FOR_BATCHES: Final = 32
_PAUSE_S: Final = 0.05

log = structlog.get_logger(__name__)

Settle = Callable[[Judged, Done], None]


class HeldApps:
    """The apps that are held now, and their units.

    An app stays here while others keep moving its head, instead of failing on the main lane first each time.
    """

    def __init__(self, open_lane: Callable[[], Lane], judging: Judging, settle: Settle) -> None:
        self._open_lane = open_lane
        self._judging = judging
        self._settle = settle
        self._waiting: dict[UUID, deque[Pending]] = {}
        self._contended: dict[UUID, int] = {}
        self._idle: list[Lane] = []
        self.looked_up = 0
        self._slots = anyio.Semaphore(MAX_LANES)
        self._tasks: anyio.abc.TaskGroup | None = None

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Say where the tasks run."""
        self._tasks = tasks

    def wants(self, app_id: UUID) -> bool:
        """Whether an app's units belong here."""
        return bool(self._waiting or self._contended) and (app_id in self._waiting or app_id in self._contended)

    def give(self, app_id: UUID, units: Sequence[Pending]) -> None:
        """Finish these units of one app, after those that it has here already."""
        waiting = self._waiting.get(app_id)
        if waiting is not None:
            waiting.extend(units)
            return
        assert self._tasks is not None
        self._waiting[app_id] = deque(units)
        self._tasks.start_soon(self._serve, app_id)

    async def close(self) -> None:
        """Close the connections."""
        for lane in self._idle:
            await lane.close()

    async def _serve(self, app_id: UUID) -> None:
        waiting = self._waiting[app_id]
        async with self._slots:
            lane = self._idle.pop() if self._idle else self._open_lane()
            try:
                while waiting:
                    units = [waiting.popleft() for _ in range(min(MAX_BATCH_UNITS, len(waiting)))]
                    await self._commit(lane, app_id, units)
            finally:
                del self._waiting[app_id]
                self.looked_up, lane.looked_up = self.looked_up + lane.looked_up, 0
                if len(self._idle) < _KEPT_LANES:
                    self._idle.append(lane)
                else:
                    await lane.close()

    async def _commit(self, lane: Lane, app_id: UUID, units: Sequence[Pending]) -> None:
        """One batch of one app, its head held."""
        try:
            moved = self._judging.meet(app_id, await lane.hold(app_id))
            judged = await self._judging.judge(lane, units, held=True, may_guess=all(pending.attempts == 0 for pending in units))
            self._waiting[app_id].extendleft(reversed(judged.left))
            units = units[: len(judged.verdicts)]
            done = await self._finish(lane, units, judged)
        except (*LOST, NotCommitted) as error:
            lane.terminate()
            await self._again(app_id, units, error)
        except OutcomeUnknown:
            self._judging.forget((app_id,))
            refuse(units, OutcomeUnknown)
        except Stale as stale:
            self._judging.guessed_wrong()
            if all(pending.attempts == 0 for pending in units):
                await self._again(app_id, units, stale)
            else:
                await self._one_by_one(lane, app_id, units, stale)
        except asyncpg.PostgresError as error:
            await lane.roll_back()
            if is_servers_fault(error):
                await self._again(app_id, units, error)
            else:
                await self._one_by_one(lane, app_id, units, error)
        except Exception as error:  # noqa: BLE001  # in an event that cannot be decoded or a projection: refused alone, and logged then
            await lane.roll_back()
            await self._one_by_one(lane, app_id, units, error)
        else:
            self._note_contention(app_id, moved=moved)
            self._settle(judged, done)

    async def _finish(self, lane: Lane, units: Sequence[Pending], judged: Judged) -> Done:
        if not judged.batch.writes():
            await lane.roll_back()
            return Done({})
        for pending in units:
            pending.sent = True
        return await lane.commit_held(judged.batch)

    async def _one_by_one(self, lane: Lane, app_id: UUID, units: Sequence[Pending], error: Exception) -> None:
        """Only the unit that fails alone is refused."""
        self._judging.forget((app_id,))
        for pending in units:
            pending.sent = False
        if len(units) > 1:
            for pending in units:
                await self._commit(lane, app_id, [pending])
            return
        unit = units[0].unit
        is_told_by_postgresql = isinstance(error, (asyncpg.PostgresError, Stale))
        log.error("unit_refused", app_id=str(app_id), unit_id=str(unit.unit_id), error=str(error), exc_info=None if is_told_by_postgresql else error)
        refuse(units, partial(PiCloudError, "the change could not be stored", code="storage_refused"))

    async def _again(self, app_id: UUID, units: Sequence[Pending], error: BaseException) -> None:
        """Nothing of this was committed. Try again, and give up on what has waited too long."""
        self._judging.forget((app_id,))
        now = asyncio.get_running_loop().time()
        for pending in reversed(units):
            pending.attempts += 1
            pending.sent = False
            if pending.gives_up_at > now:
                self._waiting[app_id].appendleft(pending)
            elif isinstance(error, asyncpg.LockNotAvailableError):
                pending.settle(Contention("another writer holds this app's log", retry_after_s=1.0))
            else:
                pending.settle(unavailable(error))
        if not isinstance(error, Stale):
            await anyio.sleep(_PAUSE_S)

    def _note_contention(self, app_id: UUID, *, moved: bool) -> None:
        left = _HOLD_FOR_BATCHES if moved else self._contended.get(app_id, 0) - 1
        if left > 0:
            self._contended[app_id] = left
        else:
            self._contended.pop(app_id, None)
