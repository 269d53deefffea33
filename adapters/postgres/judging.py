"""From units to a batch that can be committed: load what judging needs, judge in order, encode, project."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
import msgspec
import structlog

from adapters.postgres.batch import Batch, FenceRow, HeadMove, KeyRow, Row
from adapters.postgres.lane import Lane
from adapters.postgres.rows import encode_metadata, recorded_from
from adapters.postgres.states import StateCache, names_missing
from domain.clock import Clock
from domain.errors import FenceLost, Invalid, PiCloudError
from domain.events import Event, Recorded
from domain.judge import Head, Judge, Rules, streams_of
from domain.statements import Statement, load_sql
from domain.units import EMPTY_STREAM, MAX_UNIT_BYTES, Stream, Unit

_SQL: Final = load_sql("adapters.postgres", "log.sql")

log = structlog.get_logger(__name__)

Verdict = tuple[Recorded, ...] | PiCloudError
Project = Callable[[Sequence[Recorded]], list[list[Statement]]]


class Codec(Protocol):
    """Encodes and decodes events (`StructMapper`)."""

    def encode(self, event: Event) -> bytes: ...
    def decode(self, topic: str, state: bytes) -> Event: ...


class Pending(msgspec.Struct, eq=False):
    """A unit and whoever waits for its verdict."""

    unit: Unit
    verdict: asyncio.Future[tuple[Recorded, ...]]
    attempts: int = 0


class Judged(msgspec.Struct, eq=False):
    """A judged batch: what to commit, what to tell whom, and what is known once it is committed."""

    batch: Batch
    verdicts: list[tuple[Pending, Verdict]]
    events: list[Recorded]
    heads: dict[UUID, Head]
    streams: dict[UUID, dict[str, Stream]]


class Judging:
    """Judges batches. Keeps what is known of streams between them; used by one task at a time per app."""

    def __init__(self, rules: Rules, codec: Codec, project: Project, clock: Clock) -> None:
        self._rules = rules
        self._codec = codec
        self._project = project
        self._clock = clock
        self._cache = StateCache()
        self._ahead = timedelta()

    def meet(self, app_id: UUID, head: Head) -> bool:
        """Take note of a head that is now held. True when another process has moved it since our last batch."""
        known = self._cache.head(app_id)
        return not self._cache.meet(app_id, head) and known is not None

    def forget(self, app_ids: Iterable[UUID]) -> None:
        """Drop what is known of these apps: it may be stale."""
        for app_id in app_ids:
            self._cache.forget(app_id)

    def advance(self, judged: Judged) -> None:
        """Remember the states after a committed batch."""
        for app_id, head in judged.heads.items():
            self._cache.advance(app_id, head, judged.streams[app_id])

    async def judge(self, lane: Lane, pending: Sequence[Pending], *, held: bool = False) -> Judged:
        """Judge a batch. `held`: its one app's head is held by `lane`'s transaction, so fences are read now rather than checked in the commit."""
        names: defaultdict[UUID, set[str]] = defaultdict(set)
        for item in pending:
            names[item.unit.app_id] |= streams_of(item.unit)
        streams = await self._load(lane, names)
        repeated = await self._repeated(lane, pending)
        lost = await self._lost_fences(lane, pending) if held else set[UUID]()
        return self._decide(pending, streams, repeated, lost)

    def _decide(self, pending: Sequence[Pending], streams: dict[UUID, dict[str, Stream]], repeated: dict[tuple[UUID, str], tuple[Recorded, ...]], lost: set[UUID]) -> Judged:
        now = self._clock() + self._ahead
        judges = {app_id: Judge(self._rules, app_id, self._head(app_id), states, now) for app_id, states in streams.items()}
        batch = Batch(heads=[], rows=[], fences=[], keys=[], stages=[])
        judged = Judged(batch=batch, verdicts=[], events=[], heads={}, streams=streams)
        for item in pending:
            unit = item.unit
            key = None if unit.idempotency_key is None else (unit.app_id, unit.idempotency_key)
            if key is not None and key in repeated:
                judged.verdicts.append((item, repeated[key]))
                continue
            verdict = self._verdict(judges[unit.app_id], unit, batch, lost)
            judged.verdicts.append((item, verdict))
            if isinstance(verdict, PiCloudError):
                continue
            judged.events.extend(verdict)
            if key is not None and verdict:
                repeated[key] = verdict
                batch.keys.append(KeyRow(unit.app_id, key[1], verdict[0].position, verdict[-1].position, verdict[0].recorded_at))
        for app_id, judge in judges.items():
            expected = self._head(app_id).position
            if judge.position > expected:
                batch.heads.append(HeadMove(app_id, expected, judge.position, judge.recorded_at))
                judged.heads[app_id] = Head(judge.position, judge.recorded_at)
            else:
                judged.heads[app_id] = self._head(app_id)
        batch.stages = self._project(judged.events) if judged.events else []
        batch.notify = ",".join(f"{move.app_id}:{move.next}" for move in batch.heads[:100])
        return judged

    def _verdict(self, judge: Judge, unit: Unit, batch: Batch, lost: set[UUID]) -> Verdict:
        """Judge one unit; if accepted, add its rows to the batch."""
        try:
            if unit.fence is not None and unit.fence.execution_id in lost:
                raise FenceLost
            events = judge.judge(unit)
            rows = self._rows(unit, events)
        except PiCloudError as error:
            return error
        except Exception:  # a decider's own bug must refuse its unit, not end the only writer
            log.exception("unit_could_not_be_judged", app_id=str(unit.app_id), unit_id=str(unit.unit_id))
            return PiCloudError("the change could not be judged")
        judge.accept(events)
        batch.rows.extend(rows)
        if unit.fence is not None:
            batch.fences.append(FenceRow(unit.app_id, unit.fence.execution_id, unit.fence.token))
            # A claim is spent by its first outcome; a second unit under it, in this batch or a later one, is a zombie's.
            lost.add(unit.fence.execution_id)
        return events

    def _rows(self, unit: Unit, events: Sequence[Recorded]) -> list[Row]:
        metadata = encode_metadata(unit.metadata)
        rows = [Row(e.app_id, e.position, e.stream, e.version, e.event.TOPIC, self._codec.encode(e.event), metadata, e.recorded_at) for e in events]
        size = sum(len(row.state) for row in rows)
        if size > MAX_UNIT_BYTES:
            raise Invalid(f"a unit may append at most {MAX_UNIT_BYTES} bytes of events, not {size}", code="unit_too_large")
        return rows

    def _head(self, app_id: UUID) -> Head:
        head = self._cache.head(app_id)
        if head is None:
            msg = f"no head loaded for {app_id}"
            raise LookupError(msg)
        return head

    async def _load(self, lane: Lane, names: dict[UUID, set[str]]) -> dict[UUID, dict[str, Stream]]:
        """The states of all these streams at their apps' cached heads; read again from the start when a head has moved meanwhile."""
        while True:
            streams: dict[UUID, dict[str, Stream]] = {}
            missing: list[tuple[UUID, str]] = []
            for app_id, wanted in names.items():
                streams[app_id], unknown = names_missing(self._cache, app_id, wanted)
                missing.extend((app_id, name) for name in unknown)
                if not wanted or (not unknown and self._cache.head(app_id) is None):
                    missing.append((app_id, ""))
            if not missing or await self._read(lane, missing, streams):
                return streams

    async def _read(self, lane: Lane, missing: list[tuple[UUID, str]], streams: dict[UUID, dict[str, Stream]]) -> bool:
        """Read missing states. False when what was known before was not of the same head."""
        rows = await lane.fetch(_SQL["load_streams"], [app_id for app_id, _ in missing], [name for _, name in missing])
        if len(rows) < len(missing):
            await self._ensure_heads(lane, {app_id for app_id, _ in missing})
            return False
        consistent = True
        for row in rows:
            app_id, name = row["app_id"], row["stream"]
            known_before = bool(streams[app_id])
            if not self._cache.meet(app_id, Head(row["position"], row["last_recorded_at"], row["closed"])) and known_before:
                consistent = False
            if name:
                streams[app_id][name] = self._stream(row)
        self._ahead = rows[0]["now"] - self._clock()
        if consistent:
            for app_id, states in streams.items():
                self._cache.advance(app_id, self._head(app_id), states)
        return consistent

    def _stream(self, row: asyncpg.Record) -> Stream:
        if row["topic"] is None:
            return EMPTY_STREAM
        return Stream(row["originator_version"], self._codec.decode(row["topic"], row["state"]))

    async def _ensure_heads(self, lane: Lane, app_ids: Iterable[UUID]) -> None:
        for app_id in sorted(app_ids):
            await lane.fetch(_SQL["ensure_head"], app_id)

    async def _repeated(self, lane: Lane, pending: Sequence[Pending]) -> dict[tuple[UUID, str], tuple[Recorded, ...]]:
        keys = [(item.unit.app_id, item.unit.idempotency_key) for item in pending if item.unit.idempotency_key is not None]
        if not keys:
            return {}
        found: defaultdict[tuple[UUID, str], list[Recorded]] = defaultdict(list)
        for row in await lane.fetch(_SQL["find_unit_keys"], [app_id for app_id, _ in keys], [key for _, key in keys]):
            found[row["app_id"], row["key"]].append(recorded_from(row, row["app_id"], self._codec.decode))
        return {key: tuple(events) for key, events in found.items()}

    async def _lost_fences(self, lane: Lane, pending: Sequence[Pending]) -> set[UUID]:
        fences: list[Any] = [item.unit for item in pending if item.unit.fence is not None]
        if not fences:
            return set()
        columns = ([u.app_id for u in fences], [u.fence.execution_id for u in fences], [u.fence.token for u in fences])
        held = {row["id"] for row in await lane.fetch(_SQL["held_fences"], *columns)}
        return {unit.fence.execution_id for unit in fences} - held
