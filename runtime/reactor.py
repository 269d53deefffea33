"""The reactor: claims due outbox rows as slots get free and runs them side by side.

It is woken by commits, by the next due time, and by nothing else that ticks faster than `_LOOK_AGAIN_S`, for rows whose wake-up was lost with the process
that owed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import anyio
import anyio.abc
import msgspec
import structlog

from adapters.postgres.log import PgLog
from domain.claiming import Born, Rooms
from domain.errors import FenceLost, LogClosed, OutcomeUnknown, QuotaExceeded, Throttled, Unavailable
from domain.events import Recorded
from domain.ports import Reader
from domain.sandbox import ScriptError
from projections.outbox.claims import Claim, Claimed, claim, orphans, release, release_all, release_others
from projections.outbox.outbox import OUTBOX_GREW
from runtime.backlog import GIVE_BACK_AFTER_S, Backlog
from runtime.directory import Directory
from runtime.dispatch import Dispatcher, Work
from runtime.invocation import Invocation, Outcome

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


class _Slot(msgspec.Struct):
    """A run's slot, until it is given back."""

    taken: bool = True


class Reactor:
    """`slots` rows run at once, at most half of them (but at least one) for one app; what is claimed beyond that is said in `runtime.backlog`."""

    def __init__(
        self,
        store: PgLog,
        reader: Reader,
        dispatcher: Dispatcher,
        directory: Directory,
        worker_id: UUID,
        *,
        slots: int,
        dead_after_s: float,
        done: Done,
    ) -> None:
        self._store = store
        self._reader = reader
        self._dispatcher = dispatcher
        self._directory = directory
        self._worker_id = worker_id
        self._dead_after_s = dead_after_s
        self._done = done
        self._backlog = Backlog(slots)
        self._tokens: set[int] = set()
        self._offers = 0
        self._strays = False
        self._runs: anyio.abc.TaskGroup | None = None
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

    @property
    def worker_id(self) -> UUID:
        """Who claims here."""
        return self._worker_id

    def offer(self, app_ids: Iterable[UUID]) -> Rooms:
        """Take new rows at birth while none are known to be due that have waited longer."""
        if self._runs is None or self._stopping or self._strays or self._backlog.may_have_left:
            return {}
        offered = {app_id: rows for app_id in app_ids if (rows := self._backlog.reserve(app_id))}
        self._offers += bool(offered)
        return offered

    def take(self, offered: Rooms, born: Sequence[Born]) -> None:
        """Begin the rows that were born claimed."""
        self._close(offered, Counter(each.app_id for each in born))
        claims = [Claim(app_id=each.app_id, task=each.task, attempt=1, due_at=each.due_at, first_attempt_at=None, token=each.token) for each in born]
        for held in claims:
            self._hold(held)
        works = [self._known(held, each) for held, each in zip(claims, born, strict=True)]
        if self._stopping or self._runs is None:  # given back with all others
            for held in claims:
                self._leave(held)
        elif None in works:
            self._runs.start_soon(self._take, claims, self._runs)
        else:
            self._wait(works, self._runs)

    def lost(self, offered: Rooms) -> None:
        """Rows may have been claimed that nobody here knows of."""
        self._strays = True
        self._close(offered, Counter())
        self.wake()

    async def run(self) -> None:
        """Claim and run until stopped; then wait for what is running, a while, and give the rest back."""
        async with anyio.create_task_group() as runs:
            self._runs = runs
            while not self._stopping:
                self._wake = anyio.Event()
                next_in_s = await self._look(runs)
                # What was left because slots or shares are taken is claimed when enough are given back, which wakes us.
                with anyio.move_on_after(GIVE_BACK_AFTER_S if self._backlog.waits() else _idle_s(next_in_s)):
                    await self._wake.wait()
            self._paused.set()
            for work in self._backlog.forgo():
                runs.start_soon(self._give_back, work.claim)
            if len(self._backlog):
                log.info("waiting_for_runs", runs=len(self._backlog), at_most_s=_FINISH_WITHIN_S)
            with anyio.move_on_after(_FINISH_WITHIN_S):
                while len(self._backlog):
                    self._wake = anyio.Event()
                    await self._wake.wait()
            self._runs = None
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

    async def _look(self, runs: anyio.abc.TaskGroup) -> float | None:
        """Give back what has waited too long, claim what there is room for and begin what has slots; returns when it is worth looking again."""
        for work in self._backlog.overdue(anyio.current_time()):
            runs.start_soon(self._give_back, work.claim)
        if self._strays and not self._offers:
            await self._release_strays()
        claimed = await self._claim()
        if claimed.claims:
            await self._take(claimed.claims, runs)
        return claimed.next_in_s

    async def _claim(self) -> Claimed:
        await self._rouse()
        shares = self._backlog.shares()
        try:
            claimed = await claim(self._reader, self._worker_id, *shares) if shares.room else Claimed([], None)
        except Throttled as error:
            log.warning("claim_failed", error=error.detail)
        except Exception:  # whatever it is, the reactor goes on
            log.exception("claim_failed")
        else:
            self._backlog.looked(shares, Counter(held.app_id for held in claimed.claims), anyio.current_time())
            self._tokens.update(held.token for held in claimed.claims)
            return claimed
        self._strays = True  # the answer may be all that was lost
        await anyio.sleep(_PAUSE_S)
        return Claimed([], 0)

    async def _rouse(self) -> None:
        """Let apps go on whose quotas are no longer used up: a day has passed, or more was allowed."""
        for app_id in list(self._backlog.resting):
            try:
                if await self._dispatcher.quotas.is_used_up(app_id):
                    continue
            except Unavailable:
                return
            self._backlog.resting.discard(app_id)
            log.info("executions_go_on", app_id=str(app_id))

    async def _take(self, claimed: list[Claim], runs: anyio.abc.TaskGroup) -> None:
        try:
            works = await self._works(claimed)
        except Exception as error:  # noqa: BLE001  # each is read alone then, and says itself what is wrong with it
            log.warning("claims_not_read", claims=len(claimed), error=str(error))
            for held in claimed:
                runs.start_soon(self._read_and_wait, held, runs)
            return
        for held, work in zip(claimed, works, strict=True):
            if work is None:
                runs.start_soon(self._give_back, held)
        self._wait(works, runs)

    def _wait(self, works: Iterable[Work | None], runs: anyio.abc.TaskGroup) -> None:
        now_s = anyio.current_time()
        for work in works:
            if work is not None and self._stopping:
                runs.start_soon(self._give_back, work.claim)
            elif work is not None:
                self._backlog.wait(work, now_s)
        self._begin(runs)

    def _begin(self, runs: anyio.abc.TaskGroup) -> None:
        """Run what waits, as far as there are slots."""
        now_s = anyio.current_time()
        while not self._stopping and (work := self._backlog.begin(now_s)) is not None:
            runs.start_soon(self._run, work, runs)

    async def _read_and_wait(self, held: Claim, runs: anyio.abc.TaskGroup) -> None:
        """A claim whose cause could not be read among others. What nobody can read (a newer program wrote it) is given back, but not to be tried at once."""
        try:
            work = await self._work(held)
        except Exception as error:
            unreadable = not isinstance(error, Throttled)
            if unreadable:
                log.exception("cause_unreadable", app_id=str(held.app_id), execution_id=str(held.task.execution_id))
            await self._give_back(held, _UNREADABLE_PAUSE_S if unreadable else _PAUSE_S)
        else:
            self._wait([work], runs)

    async def _run(self, work: Work, runs: anyio.abc.TaskGroup) -> None:
        held = work.claim
        slot = _Slot()

        def ended() -> None:
            if slot.taken:
                slot.taken = False
                self._backlog.ended(held.app_id)
                self._begin(runs)

        try:
            done = await self._dispatcher.run(work, ended)
        except FenceLost as error:
            log.info("claim_lost", execution_id=str(held.task.execution_id), code=error.code)
        except LogClosed:
            await self._release(held, 0)
        except QuotaExceeded as error:
            self._rest(held.app_id, error)
            await self._release(held, 0)
        except (Throttled, OutcomeUnknown) as error:
            # Not at once: what is away now would be away for the next attempt, too. If the outcome was committed after all, there is no claim to give back.
            log.warning("outcome_not_committed", execution_id=str(held.task.execution_id), error=error.detail)
            await self._release(held, _PAUSE_S)
        except Exception:
            log.exception("dispatch_failed", execution_id=str(held.task.execution_id))
            await self._fail(work)
        else:
            if done is not None:
                self._done(held, *done)
        finally:
            ended()
            self._leave(held)

    def _rest(self, app_id: UUID, error: QuotaExceeded) -> None:
        """Let an app's rows wait where they are: they are neither lost nor tried, and nothing is appended for them."""
        if app_id not in self._backlog.resting:
            self._backlog.resting.add(app_id)
            log.info("executions_wait_for_quota", app_id=str(app_id), quota=error.extra.get("quota"))

    async def _fail(self, work: Work) -> None:
        """A fault of ours in running a row must not leave it claimed, nor be tried for ever: it spends an attempt."""
        try:
            await self._dispatcher.lose(work, _OUR_FAULT)
        except FenceLost:
            return
        except Exception:
            log.exception("outcome_not_committed", execution_id=str(work.claim.task.execution_id))
            await self._release(work.claim, _LOOK_AGAIN_S)

    async def _give_back(self, held: Claim, after_s: float = 0.0) -> None:
        """Release a row that was not begun."""
        try:
            await self._release(held, after_s)
        finally:
            self._leave(held)

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

    async def _release_strays(self) -> None:
        """No offer is open, and none is made before this is done: so whatever is claimed here and not known is nobody's."""
        try:
            await release_others(self._reader, self._worker_id, list(self._tokens))
        except Exception as error:  # noqa: BLE001  # tried again with each look until it is done
            log.warning("claims_not_given_back", error=str(error))
        else:
            self._strays = False

    def _close(self, offered: Rooms, born: Mapping[UUID, int]) -> None:
        """Free what an offer has kept; what was used up may not have been enough."""
        self._offers -= bool(offered)
        for app_id, rows in offered.items():
            self._backlog.leave(app_id, rows)
            if born.get(app_id, 0) >= rows:
                self._backlog.ran_short()
        if self._stopping or (self._strays and not self._offers):
            self.wake()

    def _hold(self, held: Claim) -> None:
        self._backlog.hold(held.app_id)
        self._tokens.add(held.token)

    def _known(self, held: Claim, born: Born) -> Work | None:
        """A row with what it needs, if all of that is at hand."""
        trigger_id = held.task.trigger_id
        trigger = None if trigger_id is None else self._directory.trigger(held.app_id, trigger_id)
        if born.cause is None or (trigger is None and trigger_id is not None):
            return None
        return Work(claim=held, cause=born.cause, before=born.before, trigger=trigger)

    def _leave(self, held: Claim) -> None:
        self._backlog.leave(held.app_id)
        self._tokens.discard(held.token)
        if self._stopping or self._backlog.wants_more(held.app_id):
            self.wake()

    async def _work(self, held: Claim) -> Work:
        (work,) = await self._works([held])
        assert work is not None, "the first is never too much"
        return work

    async def _works(self, claimed: Sequence[Claim]) -> list[Work | None]:
        """Claims with their causes and triggers, each in at most one query; None for those whose causes would be too much at once."""
        causes = await self._store.read_causes([(held.app_id, held.task.cause_position) for held in claimed])
        triggers = await self._directory.triggers({(held.app_id, held.task.trigger_id) for held in claimed if held.task.trigger_id is not None})
        works: list[Work | None] = []
        for held in claimed:
            cause = causes[held.app_id, held.task.cause_position]
            trigger = None if held.task.trigger_id is None else triggers.get((held.app_id, held.task.trigger_id))
            works.append(None if cause is None else Work(claim=held, cause=cause.recorded, before=cause.before, trigger=trigger))
        return works


def _idle_s(next_in_s: float | None) -> float:
    """How long nothing can be due, unless something wakes us."""
    return _LOOK_AGAIN_S if next_in_s is None else min(max(next_in_s, _CONTENDED_S), _LOOK_AGAIN_S)
