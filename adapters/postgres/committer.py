"""Taking a batch of units to its end: judged and committed, or sorted by what was in the way."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import anyio
import asyncpg
import structlog

from adapters.postgres.batch import FENCE_LOST, HEAD_MOVED
from adapters.postgres.births import Births
from adapters.postgres.connect import LOST, is_servers_fault, unavailable
from adapters.postgres.judging import Judged, Judging
from adapters.postgres.lane import Done, Lane, NotCommitted, Stale
from adapters.postgres.pending import Pending, refuse
from domain.errors import Contention, FenceLost, OutcomeUnknown, PiCloudError

_PAUSE_S: Final = 0.05

log = structlog.get_logger(__name__)

Settle = Callable[[Judged, Done], None]


class Committer(ABC):
    """What the main lane and the lanes of single apps have in common. Units that are tried again come before all others."""

    def __init__(self, judging: Judging, births: Births, settle: Settle) -> None:
        self._judging = judging
        self._births = births
        self._settle = settle

    @abstractmethod
    def _again(self, units: Sequence[Pending]) -> None:
        """Put units that nothing has become of yet back to the front."""

    @abstractmethod
    async def _moved(self, lane: Lane, units: Sequence[Pending], judged: Judged) -> Sequence[Pending]:
        """Some head that a batch was judged at has moved or is held by somebody else. Returns the units to try again here. May raise as `Lane.fetch` does."""

    @abstractmethod
    async def _isolate(self, lane: Lane, units: Sequence[Pending], error: Exception) -> None:
        """Among these units is one that PostgreSQL or a bug refuses; nothing of them was committed."""

    async def _commit(self, lane: Lane, units: Sequence[Pending]) -> None:
        """Commit a batch and tell its callers; what that is not possible for yet is tried again or handed on. Raises nothing that a unit could cause."""
        judged: Judged | None = None
        try:
            # The first tells of all whether it is tried again, because such units come first.
            judged = await self._judging.judge(lane, units, may_guess=units[0].attempts == 0)
            units = units[: len(judged.verdicts)]
            self._put_back(judged.left)
            done = await self._send(lane, units, judged)
        except Stale as stale:
            assert judged is not None
            await self._sort_out(lane, units, judged, stale)
        except (*LOST, NotCommitted) as error:
            await self._later(lane, units, error)
        except OutcomeUnknown:
            self._forget(units)
            refuse(units, OutcomeUnknown)
        except asyncpg.PostgresError as error:
            if is_servers_fault(error):
                await self._later(lane, units, error)
            else:
                await self._refused(lane, units, error)
        except Exception as error:  # noqa: BLE001  # in an event that cannot be decoded, or in a projection; logged where its unit is refused
            await self._refused(lane, units, error)
        else:
            self._settle(judged, done)

    async def _send(self, lane: Lane, units: Sequence[Pending], judged: Judged) -> Done:
        if not judged.batch.writes():
            return Done({})
        for pending in units:
            pending.sent = True
        self._births.offer(judged)
        try:
            return await lane.commit(judged.batch)
        except (Stale, NotCommitted, asyncpg.PostgresError):
            self._births.withdraw(judged)
            raise
        except BaseException:
            self._births.lost(judged)
            raise

    async def _sort_out(self, lane: Lane, units: Sequence[Pending], judged: Judged, stale: Stale) -> None:
        """Some assumption of a batch did not hold."""
        try:
            if str(stale) == HEAD_MOVED:
                units = await self._moved(lane, units, judged)
            elif str(stale) == FENCE_LOST:
                lost = await self._judging.lost_fences(lane, units)
                refuse((pending for pending in units if pending.unit.fence in lost), FenceLost)
            else:  # a stream exists that was taken for new, or a key that was not there when it was looked for
                self._judging.guessed_wrong()
                self._forget(units)
                if units[0].attempts:
                    await self._refused(lane, units, stale)
                    return
        except (*LOST, asyncpg.PostgresError) as error:
            await self._later(lane, units, error)
        else:
            self._put_back(give_up(units, stale), is_attempt=True)

    async def _later(self, lane: Lane, units: Sequence[Pending], error: BaseException) -> None:
        """The database is away or busy, and nothing was committed. Try again soon, and give up on what has waited too long."""
        lane.terminate()
        self._forget(units)
        self._put_back(give_up(units, error), is_attempt=True)
        await anyio.sleep(_PAUSE_S)

    async def _refused(self, lane: Lane, units: Sequence[Pending], error: Exception) -> None:
        self._forget(units)
        for pending in units:
            pending.sent = False
        await self._isolate(lane, units, error)

    def _put_back(self, units: Sequence[Pending], *, is_attempt: bool = False) -> None:
        for pending in units:
            pending.attempts += is_attempt
            pending.sent = False
        self._again(units)

    def _forget(self, units: Sequence[Pending]) -> None:
        self._judging.forget({pending.unit.app_id for pending in units})


def give_up(units: Sequence[Pending], error: BaseException) -> list[Pending]:
    """Refuse the units whose time is up; returns the others that nothing has become of yet."""
    now = asyncio.get_running_loop().time()
    is_contention = isinstance(error, (Stale, asyncpg.LockNotAvailableError))
    told = partial(Contention, "another writer holds this app's log", retry_after_s=1.0) if is_contention else partial(unavailable, error)
    refuse([pending for pending in units if pending.gives_up_at <= now and not pending.settled], told)
    return [pending for pending in units if not pending.settled]


def refuse_alone(pending: Pending, error: Exception) -> None:
    """Refuse the one unit that PostgreSQL or a bug does not let pass."""
    unit = pending.unit
    trace = None if isinstance(error, (asyncpg.PostgresError, Stale)) else error
    log.error("unit_refused", app_id=str(unit.app_id), unit_id=str(unit.unit_id), error=str(error), exc_info=trace)
    pending.settle(PiCloudError("the change could not be stored", code="storage_refused"))
