"""Pages bounded by bytes: events are read a few at a time, because a thousand may hold a gibibyte, and little of that shows in the compressed log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.events import Recorded

T = TypeVar("T")

PAGE_BYTES: Final = 4 * 1024 * 1024


class Cut(msgspec.Struct, Generic[T], frozen=True):
    """The items of a page, and whether more follow them."""

    items: list[T]
    more: bool


async def read_in_turn(log: PgLog, app_id: UUID, rows: Sequence[Mapping[str, Any]]) -> AsyncIterator[Recorded]:
    """The events of rows with `position` and `weight` (about how many bytes the event has), in the order of the rows; no more is read than is asked for."""
    for positions in _portions(rows):
        events = await log.read_positions([(app_id, position) for position in positions])
        for position in positions:
            yield events[app_id, position]


def _portions(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    portion: list[int] = []
    weight = 0
    for row in rows:
        portion.append(row["position"])
        weight += row["weight"]
        if weight >= PAGE_BYTES:
            yield portion
            portion, weight = [], 0
    if portion:
        yield portion
