"""What the inside needs of the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.events import Recorded
from domain.units import Read, Stream, Unit


class Reader(Protocol):
    """Reads committed rows. Raises Unavailable when the database is away."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """The rows of a query; `$1` parameters only."""
        ...


class Readers(Protocol):
    """Hands out readers for runs."""

    def __call__(self, app_id: UUID) -> Reader:
        """A reader that finds nothing of other apps, whatever it is asked."""
        ...


class Appender(Protocol):
    """Appends units to the log."""

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """All of the unit or none; its events once they are durable. Raises a PiCloudError that refuses it."""
        ...


class Recall(Protocol):
    """Remembers the states of streams."""

    def __call__(self, app_id: UUID, stream: str) -> Stream | None:
        """A stream's state as it was a moment ago, perhaps no longer; None when it is not remembered. May be called in any thread.

        Whoever acts on it must have it checked when it commits (`Unit.reads`, `CheckReads`).
        """
        ...


class CheckReads(Protocol):
    """Checks a read set that no unit will check."""

    async def __call__(self, app_id: UUID, reads: Sequence[Read], now: datetime) -> None:
        """Return when all of it holds at one moment; raises ReadConflict otherwise."""
        ...
