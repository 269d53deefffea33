"""From units to a batch that can be committed: know the states they need, judge in order, encode, project.

Verdicts may rest on remembered states, which another process may have made stale. A unit that appends is safe, because its batch is committed by
compare-and-swap on the head it was judged at; for an app of which nothing is appended, the head is read again before anybody is told anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import anyio.to_thread
import msgspec
import structlog

from adapters.postgres.batch import Batch, FenceRow, HeadMove, KeyRow
from adapters.postgres.lane import Lane
from adapters.postgres.loading import Loaded, LoadedApp, Loading
from adapters.postgres.pending import Pending, Verdict
from adapters.postgres.rows import encode_metadata
from adapters.postgres.states import AppStates, StateCache
from domain.claiming import Rooms
from domain.clock import Clock
from domain.errors import FenceLost, Invalid, PiCloudError
from domain.events import Event, Recorded
from domain.judge import Head, Judge, Rules
from domain.statements import Statement
from domain.units import MAX_UNIT_BYTES, Fence, Stream, Unit

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
_MAX_ON_LOOP_BYTES: Final = 64 * 1024

log = structlog.get_logger(__name__)

Project = Callable[[Sequence[Recorded]], list[list[Statement]]]
Hint = Callable[[Sequence[HeadMove]], str]
"""What to tell other processes of moves that are about to be committed; empty when there is nobody to tell."""


class Codec(Protocol):
    """Encodes and decodes events (`StructMapper`): an event is encoded, and its state packed, to be stored."""

    def encode(self, event: Event) -> bytes: ...
    def pack(self, state: bytes) -> bytes: ...
    def decode(self, topic: str, state: bytes) -> Event: ...


class Judged(msgspec.Struct, eq=False):
    """A judged batch: what to commit, what to tell whom once it is, and what did not fit into it.

    `before` are the events before `events` in their streams, `offered` how many rows of the outbox may be born claimed.
    """

    batch: Batch
    verdicts: list[tuple[Pending, Verdict]]
    events: list[Recorded]
    before: list[Event | None]
    moving: list[AppStates]
    left: Sequence[Pending] = ()
    offered: Rooms = {}


class Judging:
    """Judges batches. Keeps what is known of streams between them; used by one task at a time per app."""

    def __init__(self, rules: Rules, codec: Codec, project: Project, clock: Clock, hint: Hint) -> None:
        self._rules = rules
        self._codec = codec
        self._project = project
        self._clock = clock
        self._hint = hint
        self._cache = StateCache()
        self._loading = Loading(self._cache, codec.decode)
        self._ahead = timedelta()
        # A wrong guess is found by its insert at version 1, and so only where every stream has one.
        self._may_guess = rules.first_versions == {1}

    def meet(self, app_id: UUID, head: Head) -> bool:
        """Take note of a head just read. True when another process has moved it since we last saw it."""
        return self._cache.app(app_id).meet(head)

    def recall(self, app_id: UUID, stream: str, at_least: int) -> Stream | None:
        """A stream's state at the head that is known of its app; None when it is not known, or the head is known to have moved to `at_least` since."""
        return self._cache.recall(app_id, stream, at_least)

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
            self._cache.remember(judged.moving[number - 1], recorded.stream, Stream(recorded.version, recorded.event, recorded.recorded_at), len(state))
        self._tell_time(at)

    async def judge(self, lane: Lane, pending: Sequence[Pending], *, may_guess: bool) -> Judged:
        """Judge a batch. `may_guess`: unknown streams may be taken for empty.

        Raises what asyncpg raises, and what an undecodable state or a projection's bug raises.
        """
        may_guess = may_guess and self._may_guess
        while True:
            loaded = await self._loading.load(lane, pending, may_guess=may_guess)
            self._tell_time(loaded.at)
            judged = self._decide(pending, loaded)
            if not loaded.guesses_hold(judged.events):
                may_guess = False
                continue
            unproven = _unproven(loaded, judged)
            if not unproven or await self._loading.still_at_head(lane, unproven):
                judged.batch.events.state = await self._packed(judged.batch.events.state)
                judged.batch.stages = self._project(judged.events) if judged.events else []
                judged.batch.notify = self._hint(judged.batch.heads)
                return judged

    async def _packed(self, states: list[bytes]) -> list[bytes]:
        """States as stored; many bytes are packed in a thread, because nobody else would be served meanwhile."""

        def pack() -> list[bytes]:
            return [self._codec.pack(state) for state in states]

        return pack() if sum(map(len, states)) <= _MAX_ON_LOOP_BYTES else await anyio.to_thread.run_sync(pack)

    def guessed_wrong(self) -> None:
        """A commit failed because a stream that was taken for empty is not."""
        self._loading.guessed_wrong()

    async def lost_fences(self, lane: Lane, pending: Sequence[Pending]) -> set[Fence]:
        """Those of these units' fences that their outbox rows no longer bear, and so never will again."""
        fences = [(item.unit.app_id, item.unit.fence) for item in pending if item.unit.fence is not None]
        return {fence for _, fence in fences} - await self._loading.held_fences(lane, fences) if fences else set()

    def _tell_time(self, at: datetime | None) -> None:
        """Events bear the server's time, which every process shares; here is how far it is from ours."""
        if at is not None:
            self._ahead = at - self._clock()

    def _decide(self, pending: Sequence[Pending], loaded: Loaded) -> Judged:
        deciding = _Deciding(self._rules, self._codec, loaded, self._clock() + self._ahead)
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


class _App(msgspec.Struct, eq=False):
    """An app while its units are judged; `number` is its place, from 1, among those of which something is appended."""

    loaded: LoadedApp
    judge: Judge
    number: int = 0


class _Deciding:
    """One pass over a batch's units."""

    def __init__(self, rules: Rules, codec: Codec, loaded: Loaded, now: datetime) -> None:
        self._codec = codec
        self._spent: set[Fence] = set()
        self._repeated = loaded.repeated
        self._apps = {app_id: _App(app, Judge(rules, app_id, app.head, app.streams, now)) for app_id, app in loaded.apps.items()}
        self._app_id, self._app = next(iter(self._apps.items()))
        self._moving: list[tuple[UUID, _App]] = []
        self._judged = Judged(Batch(), [], [], [], [])
        self.size = 0

    def take(self, item: Pending) -> None:
        """Judge one unit; if accepted, add it to the batch."""
        unit = item.unit
        if unit.app_id is not self._app_id:  # mostly it is, and hashing a UUID is not cheap
            self._app_id, self._app = unit.app_id, self._apps[unit.app_id]
        verdict = self._verdict(self._app, unit) if unit.idempotency_key is None else self._once(self._app, unit, unit.idempotency_key)
        self._judged.verdicts.append((item, verdict))

    def finish(self, left: Sequence[Pending]) -> Judged:
        """The batch that was taken."""
        judged, batch = self._judged, self._judged.batch
        for app_id, app in self._moving:
            head = app.loaded.head
            batch.heads.append(HeadMove(app_id, head.position, head.epoch, app.judge.position, app.judge.recorded_at))
            judged.moving.append(app.loaded.states)
        columns, events = batch.events, judged.events
        columns.position = [recorded.position for recorded in events]
        columns.stream = [recorded.stream for recorded in events]
        columns.version = [recorded.version for recorded in events]
        columns.topic = [recorded.event.TOPIC for recorded in events]
        judged.left = left
        return judged

    def _once(self, app: _App, unit: Unit, key: str) -> Verdict:
        """A unit with an idempotency key: its verdict, or that of the one before it."""
        known = self._repeated.get((unit.app_id, key))
        verdict = self._verdict(app, unit) if known is None else known
        if known is None and verdict and not isinstance(verdict, PiCloudError):
            self._repeated[unit.app_id, key] = verdict
            self._judged.batch.keys.append(KeyRow(unit.app_id, key, verdict[0].position, verdict[-1].position, verdict[0].recorded_at))
        return verdict

    def _verdict(self, app: _App, unit: Unit) -> Verdict:
        try:
            if unit.fence is not None:
                self._check_fence(unit.fence)
            events = app.judge.judge(unit)
            states = self._encode(events)
            metadata = encode_metadata(unit.metadata)
        except PiCloudError as error:
            return error
        except Exception:  # a decider's own bug must refuse its unit, not end the only writer
            log.exception("unit_could_not_be_judged", app_id=str(unit.app_id), unit_id=str(unit.unit_id))
            return PiCloudError("the change could not be judged")
        app.judge.accept(events)
        if unit.fence is not None:
            self._judged.batch.fences.append(FenceRow(unit.app_id, unit.fence.execution_id, unit.fence.token))
            # A claim is spent by its first outcome; a second unit under it is a zombie's.
            self._spent.add(unit.fence)
        if events:
            self._append(app, unit, events, states, metadata)
        return events

    def _check_fence(self, fence: Fence) -> None:
        if fence in self._spent:
            raise FenceLost

    def _encode(self, events: Sequence[Recorded]) -> list[bytes]:
        states = [self._codec.encode(recorded.event) for recorded in events]
        size = sum(map(len, states))
        if size > MAX_UNIT_BYTES:
            raise Invalid(f"a unit may append at most {MAX_UNIT_BYTES} bytes of events, not {size}", code="unit_too_large")
        self.size += size
        return states

    def _append(self, app: _App, unit: Unit, events: Sequence[Recorded], states: Sequence[bytes], metadata: str) -> None:
        batch = self._judged.batch
        if not app.number:
            self._moving.append((unit.app_id, app))
            app.number = len(self._moving)
        if batch.first_unit is None:
            batch.first_unit = unit.unit_id
        self._judged.events.extend(events)
        self._judged.before.extend(app.judge.before)
        batch.events.state.extend(states)
        batch.events.head.extend([app.number] * len(events))
        batch.events.metadata.extend([metadata] * len(events))
