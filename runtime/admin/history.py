"""Data as it was: folded from the log up to a position, for every service whose streams are `kind:collection:key` and whose state is their last event.

A state belongs to a position and the time by which expiry is judged there: the asked time, or when that position's event was recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.errors import Invalid
from domain.events import Recorded
from domain.ids import stream
from domain.ports import Reader
from domain.statements import load_sql
from runtime.admin.bounded import PAGE_BYTES, Cut, read_in_turn

SQL: Final = load_sql("runtime.admin", "history.sql")
_PAGE: Final = 1000
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_LAST_CHAR: Final = chr(0x10FFFF)

T = TypeVar("T")


class Moment(msgspec.Struct, frozen=True):
    """A point in an app's history: everything up to `position` has happened, and the clock shows `time`."""

    position: int
    time: datetime


class Kept(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a service keeps in streams of a kind.

    `topics` are those of events after which something is there; `item` makes it of such an event, or None when it had expired by a time; `size` is about how
    many bytes it has.
    """

    kind: str
    topics: tuple[str, ...]
    item: Callable[[Recorded, datetime], T | None]
    size: Callable[[T], int]


class DataHistory(Generic[T]):
    """Reads a service's data of the past."""

    def __init__(self, reader: Reader, log: PgLog, kept: Kept[T]) -> None:
        self._reader = reader
        self._log = log
        self._kept = kept

    async def moment(self, app_id: UUID, at: int | datetime, now: datetime) -> Moment:
        """The moment of a position or a time. Raises Invalid naming `at` for one that has not come yet."""
        if isinstance(at, datetime):
            if at > now:
                raise Invalid("at: this time has not come yet", field="at")
            return Moment(await self._log.position_at(app_id, at), at)
        head = await self._log.head(app_id)
        if at > head:
            raise Invalid(f"at: the log of this app ends at position {head}", field="at", head=head)
        rows = await self._reader.fetch(SQL["recorded_at"], app_id, at)
        return Moment(at, rows[0]["recorded_at"] if rows else _BEGINNING)

    async def item(self, app_id: UUID, collection: str, key: str, moment: Moment) -> T | None:
        """One item."""
        rows = await self._reader.fetch(SQL["stream_at"], app_id, stream(self._kept.kind, collection, key), moment.position)
        events = await self._log.read_positions([(app_id, row["position"]) for row in rows])
        return next((self._item(recorded, moment.time) for recorded in events.values()), None)

    async def items(self, app_id: UUID, collection: str, prefix: str, after: str | None, moment: Moment, limit: int) -> Cut[T]:
        """Up to `limit` items whose keys begin with `prefix`, by key in code-point order, after a key, and no more once they have 4 MiB."""
        found: list[T] = []
        size = 0
        async for item in self._walk(app_id, collection, prefix, after, moment):
            if len(found) == limit or size >= PAGE_BYTES:
                return Cut(found, more=True)
            found.append(item)
            size += self._kept.size(item)
        return Cut(found, more=False)

    async def collections(self, app_id: UUID, after: str | None, moment: Moment, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` collections in the order of their streams, after a name, with how many items each had then (perhaps none)."""
        kind = self._kept.kind
        found: list[tuple[str, int]] = []
        low = f"{kind}:" if after is None else _behind(stream(kind, after) + ":")
        while len(found) < limit:
            rows = await self._reader.fetch(SQL["next_collection"], app_id, low, moment.position, _behind(f"{kind}:"))
            if not rows:
                break
            encoded = rows[0]["collection"]
            low = _behind(f"{kind}:{encoded}:")
            name = encoded.replace("%3A", ":").replace("%25", "%")
            found.append((name, await self._count(app_id, name, moment)))
        return found

    async def alive(self, app_id: UUID, rows: Sequence[Mapping[str, Any]], time: datetime) -> int:
        """How many of these rows of `streams_at` are there at a time. All, where nothing expires."""
        return len(rows)

    async def _count(self, app_id: UUID, collection: str, moment: Moment) -> int:
        total, after = 0, stream(self._kept.kind, collection, "")
        end = _behind(after)
        while True:
            rows = await self._reader.fetch(SQL["streams_at"], app_id, after, end, moment.position, _PAGE)
            total += await self.alive(app_id, [row for row in rows if row["topic"] in self._kept.topics], moment.time)
            if len(rows) < _PAGE:
                return total
            after = rows[-1]["originator_id"]

    async def _page(self, app_id: UUID, collection: str, prefix: str, after: str | None, moment: Moment) -> Sequence[Mapping[str, Any]]:
        kind, topics = self._kept.kind, list(self._kept.topics)
        low = stream(kind, collection, prefix)
        start = len(stream(kind, collection, ""))
        return await self._reader.fetch(SQL["items_at"], app_id, low, _behind(low), moment.position, start, topics, after, _PAGE)

    async def _walk(self, app_id: UUID, collection: str, prefix: str, after: str | None, moment: Moment) -> AsyncIterator[T]:
        while True:
            rows = await self._page(app_id, collection, prefix, after, moment)
            async for recorded in read_in_turn(self._log, app_id, rows):
                item = self._item(recorded, moment.time)
                if item is not None:
                    yield item
            if len(rows) < _PAGE:
                return
            after = rows[-1]["key"]

    def _item(self, recorded: Recorded, time: datetime) -> T | None:
        return self._kept.item(recorded, time) if recorded.event.TOPIC in self._kept.topics else None


def _behind(prefix: str) -> str:
    """The least text after all that begin with `prefix`, which does not consist of U+10FFFF alone."""
    kept = prefix.rstrip(_LAST_CHAR)
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
