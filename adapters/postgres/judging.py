"""From units to a batch that can be committed: know the states they need, judge in order, encode, project.

Verdicts may rest on remembered states, which another process may have made stale. A unit that appends is safe, because its batch is committed by
compare-and-swap on the head it was judged at; for an app of which nothing is appended, the head is read again before anybody is told anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import msgspec
import structlog

from adapters.postgres.batch import Batch, EventColumns, FenceRow, HeadMove, KeyRow
from adapters.postgres.hints import MAX_APPS, encode_hint
from adapters.postgres.lane import Lane
from adapters.postgres.loading import Loaded, Loading
from adapters.postgres.pending import Pending, Verdict
from adapters.postgres.rows import encode_metadata
from adapters.postgres.states import AppStates, StateCache
from domain.clock import Clock
from domain.errors import FenceLost, Invalid, PiCloudError
from domain.events import Event, Recorded
from domain.judge import Head, Judge, Rules
from domain.statements import Statement
from domain.units import MAX_UNIT_BYTES, Fence, Stream, Unit

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024

log = structlog.get_logger(__name__)

Project = Callable[[Sequence[Recorded]], list[list[Statement]]]


class Codec(Protocol):
    """Encodes and decodes events (`StructMapper`)."""

    def encode(self, event: Event) -> bytes: ...
    def decode(self, topic: str, state: bytes) -> Event: ...


class Judged(msgspec.Struct, eq=False):
    """A judged batch: what to commit, what to tell whom once it is, and what did not fit into it."""

    batch: Batch
    verdicts: list[tuple[Pending, Verdict]]
    events: list[Recorded]
    moving: list[AppStates]
    left: Sequence[Pending] = ()


class Judging:
    """Judges batches. Keeps what is known of streams between them; used by one task at a time per app."""

    def __init__(self, rules: Rules, codec: Codec, project: Project, clock: Clock, sender: str) -> None:
        self._rules = rules
        self._codec = codec
        self._project = project
        self._clock = clock
        self._sender = sender
        self._cache = StateCache()
        self._loading = Loading(self._cache, codec.decode)
        self._ahead = timedelta()
        # A wrong guess is found by its insert at version 1, and so only where every stream has one.
        self._may_guess = rules.first_versions == {1}

    def meet(self, app_id: UUID, head: Head) -> bool:
        """Take note of a head that is now held. True when another process has moved it since we last saw it."""
        return self._cache.app(app_id).meet(head)

    def forget(self, app_ids: Iterable[UUID]) -> None:
        """Drop what is known of these apps: it may be stale."""
        for app_id in app_ids:
            self._cache.app(app_id).forget()

    def advance(self, judged: Judged, at: datetime | None) -> None:
        """Remember the states after a batch that was committed at `at` by the server's clock."""
        for states, move in zip(judged.moving, judged.batch.heads, strict=True):
            states.head = Head(position=move.next, epoch=move.epoch, last_recorded_at=move.recorded_at)
        columns = judged.batch.events
        for recorded, number, state in zip(judged.events, columns.head, columns.state, strict=True):
            self._cache.remember(judged.moving[number - 1], recorded.stream, Stream(recorded.version, recorded.event), len(state))
        self._tell_time(at)

    async def judge(self, lane: Lane, pending: Sequence[Pending], *, held: bool = False, may_guess: bool = True) -> Judged:
        """Judge a batch. `held`: its one app's head is held by `lane`'s transaction; `may_guess`: unknown streams may be taken for empty.

        Raises what asyncpg raises, and what an undecodable state or a projection's bug raises.
        """
        fences = [(item.unit.app_id, item.unit.fence) for item in pending if item.unit.fence is not None]
        lost = await self.lost_fences(lane, fences) if held and fences else set[Fence]()
        may_guess = may_guess and self._may_guess
        while True:
            loaded = await self._loading.load(lane, pending, may_guess=may_guess)
            self._tell_time(loaded.at)
            judged = self._decide(pending, loaded, set(lost))
            if not loaded.guesses_hold(judged.events):
                may_guess = False
                continue
            unproven = [] if held else _unproven(loaded, judged)
            if not unproven or await self._loading.still_at_head(lane, unproven):
                judged.batch.stages = self._project(judged.events) if judged.events else []
                judged.batch.notify = encode_hint(self._sender, ((move.app_id, move.next) for move in judged.batch.heads[:MAX_APPS]))
                return judged

    def guessed_wrong(self) -> None:
        """A commit failed because a stream that was taken for empty is not."""
        self._loading.guessed_wrong()

    async def lost_fences(self, lane: Lane, fences: Sequence[tuple[UUID, Fence]]) -> set[Fence]:
        """Those of these fences that their outbox rows no longer bear, and so never will again."""
        return {fence for _, fence in fences} - await self._loading.held_fences(lane, fences)

    def _tell_time(self, at: datetime | None) -> None:
        """Events bear the server's time, which every process shares; here is how far it is from ours."""
        if at is not None:
            self._ahead = at - self._clock()

    def _decide(self, pending: Sequence[Pending], loaded: Loaded, lost: set[Fence]) -> Judged:
        deciding = _Deciding(self._rules, self._codec, loaded, lost, self._clock() + self._ahead)
        for index, item in enumerate(pending):
            deciding.take(item)
            if deciding.size > MAX_BATCH_BYTES:
                return deciding.finish(pending[index + 1 :])
        return deciding.finish(())


def _unproven(loaded: Loaded, judged: Judged) -> list[UUID]:
    """Apps whose verdicts rest on memory alone: nothing of them is committed, and nothing was read."""
    if len(judged.batch.heads) == len(loaded.apps):
        return []
    moving = {move.app_id for move in judged.batch.heads}
    return [app_id for app_id, app in loaded.apps.items() if not app.is_fresh and app_id not in moving]


class _Deciding:
    """One pass over a batch's units."""

    def __init__(self, rules: Rules, codec: Codec, loaded: Loaded, lost: set[Fence], now: datetime) -> None:
        self._codec = codec
        self._lost = lost
        self._judges = {app_id: Judge(rules, app_id, app.head, app.streams, now) for app_id, app in loaded.apps.items()}
        self._loaded = loaded
        self._numbers: dict[UUID, int] = {}
        self._columns = EventColumns()
        self._judged = Judged(Batch(events=self._columns), [], [], [])
        self.size = 0

    def take(self, item: Pending) -> None:
        """Judge one unit; if accepted, add it to the batch."""
        unit = item.unit
        key = None if unit.idempotency_key is None else (unit.app_id, unit.idempotency_key)
        known = None if key is None else self._loaded.repeated.get(key)
        verdict = self._verdict(unit) if known is None else known
        self._judged.verdicts.append((item, verdict))
        if key is not None and known is None and verdict and not isinstance(verdict, PiCloudError):
            self._loaded.repeated[key] = verdict
            self._judged.batch.keys.append(KeyRow(unit.app_id, key[1], verdict[0].position, verdict[-1].position, verdict[0].recorded_at))

    def finish(self, left: Sequence[Pending]) -> Judged:
        """The batch that was taken."""
        batch = self._judged.batch
        for app_id in self._numbers:
            app, judge = self._loaded.apps[app_id], self._judges[app_id]
            batch.heads.append(HeadMove(app_id, app.head.position, app.head.epoch, judge.position, judge.recorded_at))
            self._judged.moving.append(app.states)
        self._judged.left = left
        return self._judged

    def _verdict(self, unit: Unit) -> Verdict:
        judge = self._judges[unit.app_id]
        try:
            self._check_fence(unit)
            events = judge.judge(unit)
            states = self._encode(events)
            metadata = encode_metadata(unit.metadata) if events else ""
        except PiCloudError as error:
            return error
        except Exception:  # a decider's own bug must refuse its unit, not end the only writer
            log.exception("unit_could_not_be_judged", app_id=str(unit.app_id), unit_id=str(unit.unit_id))
            return PiCloudError("the change could not be judged")
        judge.accept(events)
        if unit.fence is not None:
            self._judged.batch.fences.append(FenceRow(unit.app_id, unit.fence.execution_id, unit.fence.token))
            # A claim is spent by its first outcome; a second unit under it is a zombie's.
            self._lost.add(unit.fence)
        if events:
            self._append(unit, events, states, metadata)
        return events

    def _check_fence(self, unit: Unit) -> None:
        if unit.fence is not None and unit.fence in self._lost:
            raise FenceLost

    def _encode(self, events: Sequence[Recorded]) -> list[bytes]:
        states = [self._codec.encode(recorded.event) for recorded in events]
        size = sum(map(len, states))
        if size > MAX_UNIT_BYTES:
            raise Invalid(f"a unit may append at most {MAX_UNIT_BYTES} bytes of events, not {size}", code="unit_too_large")
        self.size += size
        return states

    def _append(self, unit: Unit, events: Sequence[Recorded], states: Sequence[bytes], metadata: str) -> None:
        number = self._numbers.setdefault(unit.app_id, len(self._numbers) + 1)
        columns = self._columns
        for recorded, state in zip(events, states, strict=True):
            columns.head.append(number)
            columns.position.append(recorded.position)
            columns.stream.append(recorded.stream)
            columns.version.append(recorded.version)
            columns.topic.append(recorded.event.TOPIC)
            columns.state.append(state)
            columns.metadata.append(metadata)
        if self._judged.batch.first_unit is None:
            self._judged.batch.first_unit = unit.unit_id
        self._judged.events.extend(events)
