"""Judging units in the log's order: pure, so that the same rules hold wherever the states came from.

A `Judge` holds the states of one app's streams at its head. Units are judged one after another; each sees the events of the accepted ones before it, and a
refused one leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate
from domain.errors import AlreadyExists, Invalid, LogClosed, ReadConflict, VersionConflict
from domain.events import Event, Recorded
from domain.units import ABSENT, ANY, MAX_UNIT_EVENTS, Change, Decide, Effect, Exists, Read, Record, Stream, Unit


class Rules:
    """The deciders of all aggregates, found by effect type, and their notion of existence, found by event type.

    `first_versions` are the versions at which a stream may begin.
    """

    first_versions: frozenset[int] = frozenset({1})

    def __init__(self, aggregates: Iterable[Aggregate]) -> None:
        self.deciders: dict[type[Effect], Decide] = {Record: lambda effect, _last, _now: (effect.event,)}
        self.exists: dict[type[Event], Exists] = {}
        for aggregate in aggregates:
            self.deciders.update(aggregate.deciders)
            self.exists.update(dict.fromkeys(aggregate.events, aggregate.exists))

    def decide(self, effect: Effect, stream: Stream, now: datetime) -> Iterable[Event]:
        """The events of one effect. Raises what its decider raises."""
        return self.deciders[type(effect)](effect, stream.last, now)

    def first_version(self, effect: Effect) -> int:
        """The version that the first event of an empty stream gets."""
        del effect
        return 1

    def is_absent(self, stream: Stream, now: datetime) -> bool:
        """Whether a stream's subject does not exist now."""
        last = stream.last
        return last is None or not self.exists[type(last)](last, now)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where an app's log ends. `epoch` changes when batches that were judged at this position must no longer be committed."""

    position: int
    last_recorded_at: datetime
    closed: bool = False
    epoch: int = 0


class Judge:
    """Judges units against one app's head. `streams` must hold every stream that the units touch or have read; `accept` updates it.

    `before` are, of the events that `judge` has just returned, those before them in their streams.
    """

    def __init__(self, rules: Rules, app_id: UUID, head: Head, streams: dict[str, Stream], recorded_at: datetime) -> None:
        self._rules = rules
        self._app_id = app_id
        self._streams = streams
        self._closed = head.closed
        self._after: dict[str, Stream] = {}
        self.before: list[Event | None] = []
        self.position = head.position
        self.recorded_at = max(recorded_at, head.last_recorded_at)

    def judge(self, unit: Unit) -> tuple[Recorded, ...]:
        """The unit's events in order, or a PiCloudError; either way nothing is changed yet."""
        if self._closed:
            raise LogClosed
        for read in unit.reads:
            self._check_read(read, unit.now)
        self._after = {}
        self.before = []
        events: list[Recorded] = []
        for change in unit.changes:
            self._apply(unit, change, events)
            if len(events) > MAX_UNIT_EVENTS:
                raise Invalid(f"a unit may append at most {MAX_UNIT_EVENTS} events", code="unit_too_large")
        return tuple(events)

    def accept(self, events: Sequence[Recorded]) -> None:
        """Let the units that follow see these events, which `judge` has just returned."""
        self._streams.update(self._after)
        self.position += len(events)

    def _check_read(self, read: Read, now: datetime) -> None:
        stream = self._streams[read.stream]
        held = self._rules.is_absent(stream, now) if read.version == ABSENT else stream.version == read.version
        if not held:
            raise ReadConflict(stream=read.stream)

    def _apply(self, unit: Unit, change: Change, events: list[Recorded]) -> None:
        name = change.effect.stream
        stream = self._after.get(name) or self._streams[name]
        if change.expect != ANY:
            self._check_expectation(name, stream, change.expect, unit.now)
        version = stream.version if stream.last is not None else self._rules.first_version(change.effect) - 1
        for event in self._rules.decide(change.effect, stream, unit.now):
            version += 1
            self.before.append(stream.last)
            stream = self._after[name] = Stream(version, event, self.recorded_at)
            events.append(
                Recorded(
                    app_id=self._app_id,
                    position=self.position + len(events) + 1,
                    stream=name,
                    version=version,
                    event=event,
                    metadata=unit.metadata,
                    recorded_at=self.recorded_at,
                )
            )

    def _check_expectation(self, name: str, stream: Stream, expect: int, now: datetime) -> None:
        if expect == ABSENT:
            if not self._rules.is_absent(stream, now):
                raise AlreadyExists(stream=name)
        elif stream.version != expect or self._rules.is_absent(stream, now):
            raise VersionConflict(f"expected version {expect}, found {stream.version}", stream=name, expected=expect, found=stream.version)


def streams_of(unit: Unit) -> frozenset[str]:
    """Every stream that judging this unit needs."""
    return frozenset([change.effect.stream for change in unit.changes] + [read.stream for read in unit.reads])
