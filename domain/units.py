"""Units: what is appended together, all of it or none, and how a unit is judged under the log's order.

A `Change` is an effect on one stream with what it expects of that stream. Effects are decided at the head of the log: `decide(effect, last event, now)`
returns the events, so `increment` gets its value there and `set` becomes insert or update there. Whatever a unit has read stands in `reads` and must still
hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.events import Event, Metadata

MAX_UNIT_EVENTS: Final = 1000
MAX_UNIT_BYTES: Final = 4 * 1024 * 1024
MAX_UNIT_READS: Final = 50_000
"""How many streams a run may read: what it has read is held, and looked up again when it is committed."""

ANY: Final = -1
"""Expectation: the stream may be at any version."""
ABSENT: Final = 0
"""Expectation: the stream's subject does not exist now (never did, was deleted, or has expired)."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to happen to one stream. Subclasses are imperative (`SetKey`) and name their stream."""

    @property
    def stream(self) -> str:
        """The stream that this effect would append to."""
        raise NotImplementedError


class Record(Effect, frozen=True, kw_only=True):
    """Append this very event: for changes that were decided beforehand on a state whose version the change expects."""

    name: str
    event: Event

    @property
    def stream(self) -> str:
        return self.name


class Change(msgspec.Struct, frozen=True):
    """An effect and what it expects of its stream: `ANY`, `ABSENT` or an exact version (>= 1)."""

    effect: Effect
    expect: int = ANY


class Read(msgspec.Struct, frozen=True):
    """Something that a unit has read: the stream and its version, or `ABSENT`."""

    stream: str
    version: int


class Fence(msgspec.Struct, frozen=True):
    """The claim under which an outbox row is being executed; `token` is the row's fence."""

    execution_id: UUID
    token: int


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What is appended together to one log.

    `now` is the unit's clock (the execution's, or the host's), by which expiry is judged. With an `idempotency_key` a second unit of the same key appends
    nothing and is answered with the first one's positions.
    """

    app_id: UUID
    metadata: Metadata
    now: datetime
    changes: tuple[Change, ...]
    reads: tuple[Read, ...] = ()
    fence: Fence | None = None
    idempotency_key: str | None = None

    @property
    def unit_id(self) -> UUID:
        """The unit's id, unique for ever."""
        return self.metadata.unit_id


class Stream(msgspec.Struct, frozen=True):
    """The state of a stream: its version (0 when nothing was ever appended), its last event, and when that was recorded, where it was asked for."""

    version: int = 0
    last: Event | None = None
    recorded_at: datetime | None = None


EMPTY_STREAM: Final = Stream()

Decide = Callable[[Any, Event | None, datetime], Sequence[Event]]
"""`(effect, last event of its stream, now) -> events`; raises a PiCloudError to refuse the unit."""

Exists = Callable[[Event, datetime], bool]
"""`(last event of a stream, now)`: does the stream's subject exist (is it neither deleted nor expired)?"""
