"""Apps that take turns with other processes, each in a task and on a lane of its own.

While several processes write to one app, each commit of one spoils what the others have judged. So they take turns: whoever has the app's turn (an advisory
lock of its session, which PostgreSQL hands on in the order of asking) commits for some milliseconds as if it were alone. A turn is a courtesy and protects
nothing; batches are still committed by compare-and-swap on the head. Here also end the units of a batch that PostgreSQL refuses: they are tried one by one,
so that only the one that fails alone is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import anyio
import anyio.abc
import anyio.lowlevel
import asyncpg

from adapters.postgres.births import Births
from adapters.postgres.committer import Committer, Settle, give_up, refuse_alone
from adapters.postgres.connect import LOST
from adapters.postgres.judging import Judged, Judging
from adapters.postgres.lane import Lane
from adapters.postgres.pending import Pending

MAX_BATCH_UNITS: Final = 256
MAX_LANES: Final = 8
_KEPT_LANES: Final = 2
_TURN_S: Final = 0.01
_TURNS_AFTER_CONTENTION: Final = 32
_PAUSE_S: Final = 0.05


class Turns:
    """The apps that take turns now, and their units. An app stays while others keep moving its head, instead of failing on the main lane first each time."""

    def __init__(self, open_lane: Callable[[], Lane], judging: Judging, births: Births, settle: Settle) -> None:
        self._open_lane = open_lane
        self._judging = judging
        self._births = births
        self._settle = settle
        self._waiting: dict[UUID, deque[Pending]] = {}
        self._contended: dict[UUID, int] = {}
        self._idle: list[Lane] = []
        self._slots = anyio.Semaphore(MAX_LANES)
        self._tasks: anyio.abc.TaskGroup | None = None
        self.looked_up = 0

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Say where the tasks run."""
        self._tasks = tasks

    def has(self, app_id: UUID) -> bool:
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
            serving = _Serving(self._judging, self._births, self._settle, app_id, waiting)
            try:
                while waiting:
                    self._note_contention(app_id, moved=await serving.take_turn(lane))
            finally:
                del self._waiting[app_id]
                self.looked_up, lane.looked_up = self.looked_up + lane.looked_up, 0
                if len(self._idle) < _KEPT_LANES:
                    self._idle.append(lane)
                else:
                    await lane.close()

    def _note_contention(self, app_id: UUID, *, moved: bool) -> None:
        left = _TURNS_AFTER_CONTENTION if moved else self._contended.get(app_id, 0) - 1
        if left > 0:
            self._contended[app_id] = left
        else:
            self._contended.pop(app_id, None)


class _Serving(Committer):
    """One app's units, while there are any."""

    def __init__(self, judging: Judging, births: Births, settle: Settle, app_id: UUID, waiting: deque[Pending]) -> None:
        super().__init__(judging, births, settle)
        self._app_id = app_id
        self._waiting = waiting

    async def take_turn(self, lane: Lane) -> bool:
        """Wait for the turn and commit until it is over or nothing is left. True when others have written since the last one."""
        loop = asyncio.get_running_loop()
        try:
            moved = self._judging.meet(self._app_id, await lane.take_turn(self._app_id))
            ends_at = loop.time() + _TURN_S
            while self._waiting and loop.time() < ends_at:
                await self._commit(lane, [self._waiting.popleft() for _ in range(min(MAX_BATCH_UNITS, len(self._waiting)))])
                await anyio.lowlevel.checkpoint()  # whoever was answered may have more
            await lane.end_turn()
        except (*LOST, asyncpg.PostgresError) as error:
            if not isinstance(error, asyncpg.LockNotAvailableError):
                lane.terminate()
            units = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._waiting.extend(give_up(units, error))
            await anyio.sleep(_PAUSE_S)
            return False
        return moved

    def _again(self, units: Sequence[Pending]) -> None:
        self._waiting.extendleft(reversed(units))

    async def _moved(self, lane: Lane, units: Sequence[Pending], judged: Judged) -> Sequence[Pending]:
        """Wait until the head is nobody's: by then whoever held it has moved it or gone."""
        self._judging.meet(self._app_id, await lane.wait_for_head(self._app_id))
        return units

    async def _isolate(self, lane: Lane, units: Sequence[Pending], error: Exception) -> None:
        if len(units) == 1:
            refuse_alone(units[0], error)
            return
        for pending in units:
            await self._commit(lane, [pending])
