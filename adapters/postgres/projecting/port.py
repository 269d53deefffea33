"""What this package needs to know of a projection; `projections.base.Projection` says what each member means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from domain.events import Event, Recorded
from domain.statements import Statement


class Projection(Protocol):
    """A read model, seen from the database that holds it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def schema(self) -> str: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    @property
    def volatile_columns(self) -> tuple[str, ...]: ...
    @property
    def handles(self) -> frozenset[type[Event]]: ...
    def apply(self, events: Sequence[Recorded]) -> list[list[Statement]]: ...


class Decoder(Protocol):
    """Turns a stored state into its event (`StructMapper`)."""

    def decode(self, topic: str, state: bytes) -> Event: ...


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rebuild or a verification has come.

    `done` of `total` positions are replayed; `waits` counts swaps that gave way to other users of the tables.
    """

    phase: Literal["replaying", "swapping", "swapped", "comparing"]
    projection: str = ""
    done: int = 0
    total: int = 0
    waits: int = 0


Report = Callable[[Progress], None]
"""Called on the loop now and then; what it raises ends the work."""


def quiet(progress: Progress) -> None:
    """Report nothing."""
    del progress


Positions = dict[UUID, int]
"""A position in each app's log."""
