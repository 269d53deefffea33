"""What the inside needs of the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from domain.events import Recorded
from domain.units import Unit


class Reader(Protocol):
    """Reads committed rows. Raises Unavailable when the database is away."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """The rows of a query; `$1` parameters only."""
        ...


class Appender(Protocol):
    """Appends units to the log."""

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """All of the unit or none; its events once they are durable. Raises a PiCloudError that refuses it."""
        ...
