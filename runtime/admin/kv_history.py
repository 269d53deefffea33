"""Key-value data as it was: folded from the log up to a position.

A state belongs to a position and the time by which expiry is judged there: the asked time, or when that position's event was recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from anyio import to_thread

from adapters.postgres.log import PgLog
from domain.errors import Invalid
from domain.events import Recorded
from domain.ids import stream
from domain.kv import KvSet, entry_stream, exists
from domain.ports import Reader
from domain.statements import load_sql
from projections.kv.reads import Collection, Entry
from runtime.admin.bounded import PAGE_BYTES, Cut, read_in_turn
from runtime.admin.kv_tails import lives, tail_of

_SQL: Final = load_sql("runtime.admin", "kv_history.sql")
_PAGE: Final = 1000
_STATES: Final = 16
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_LAST_CHAR: Final = chr(0x10FFFF)


class Moment(msgspec.Struct, frozen=True):
    """A point in an app's history: everything up to `position` has happened, and the clock shows `time`."""

    position: int
    time: datetime


class KvHistory:
    """Reads entries of the past."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        self._reader = reader
        self._log = log

    async def moment(self, app_id: UUID, at: int | datetime, now: datetime) -> Moment:
        """The moment of a position or a time. Raises Invalid naming `at` for one that has not come yet."""
        if isinstance(at, datetime):
            if at > now:
                raise Invalid("at: this time has not come yet", field="at")
            return Moment(await self._log.position_at(app_id, at), at)
        head = await self._log.head(app_id)
        if at > head:
            raise Invalid(f"at: the log of this app ends at position {head}", field="at", head=head)
        rows = await self._reader.fetch(_SQL["recorded_at"], app_id, at)
        return Moment(at, rows[0]["recorded_at"] if rows else _BEGINNING)

    async def entry(self, app_id: UUID, collection: str, key: str, moment: Moment) -> Entry | None:
        """One entry."""
        rows = await self._reader.fetch(_SQL["stream_at"], app_id, entry_stream(collection, key), moment.position)
        events = await self._log.read_positions([(app_id, row["position"]) for row in rows])
        return next((_entry(recorded, moment.time) for recorded in events.values()), None)

    async def entries(self, app_id: UUID, collection: str, prefix: str, after: str | None, moment: Moment, limit: int) -> Cut[Entry]:
        """Up to `limit` entries whose keys begin with `prefix`, by key in code-point order, after a key, and no more once their values have 4 MiB."""
        found: list[Entry] = []
        size = 0
        async for entry in self._walk(app_id, collection, prefix, after, moment):
            if len(found) == limit or size >= PAGE_BYTES:
                return Cut(found, more=True)
            found.append(entry)
            size += len(bytes(entry.value))
        return Cut(found, more=False)

    async def collections(self, app_id: UUID, after: str | None, moment: Moment, limit: int) -> list[Collection]:
        """Up to `limit` collections in the order of their streams, after a name, with how many entries each had then (perhaps none)."""
        found: list[Collection] = []
        low = "kv:" if after is None else _behind(stream("kv", after) + ":")
        while len(found) < limit:
            rows = await self._reader.fetch(_SQL["next_collection"], app_id, low, moment.position)
            if not rows:
                break
            encoded = rows[0]["collection"]
            low = _behind(f"kv:{encoded}:")
            name = encoded.replace("%3A", ":").replace("%25", "%")
            found.append(Collection(name, await self._count(app_id, name, moment)))
        return found

    async def _count(self, app_id: UUID, collection: str, moment: Moment) -> int:
        total, after = 0, stream("kv", collection, "")
        end = _behind(after)
        while True:
            rows = await self._reader.fetch(_SQL["streams_at"], app_id, after, end, moment.position, _PAGE)
            total += await self._alive(app_id, [row for row in rows if row["topic"] == KvSet.TOPIC], moment.time)
            if len(rows) < _PAGE:
                return total
            after = rows[-1]["originator_id"]

    async def _page(self, app_id: UUID, collection: str, prefix: str, after: str | None, moment: Moment) -> Sequence[Mapping[str, Any]]:
        low = stream("kv", collection, prefix)
        start = len(stream("kv", collection, ""))
        return await self._reader.fetch(_SQL["entries_at"], app_id, low, _behind(low), moment.position, start, KvSet.TOPIC, after, _PAGE)

    async def _walk(self, app_id: UUID, collection: str, prefix: str, after: str | None, moment: Moment) -> AsyncIterator[Entry]:
        while True:
            rows = await self._page(app_id, collection, prefix, after, moment)
            async for recorded in read_in_turn(self._log, app_id, rows):
                entry = _entry(recorded, moment.time)
                if entry is not None:
                    yield entry
            if len(rows) < _PAGE:
                return
            after = rows[-1]["key"]

    async def _alive(self, app_id: UUID, rows: Sequence[Mapping[str, Any]], time: datetime) -> int:
        """How many of these sets had not expired by a time; no value is decoded for it."""
        tails = [row["tail"] for row in rows if row["tail"] is not None]
        packed = [row["position"] for row in rows if row["tail"] is None]
        for start in range(0, len(packed), _STATES):
            states = await self._reader.fetch(_SQL["states"], app_id, packed[start : start + _STATES])
            tails += await to_thread.run_sync(_tails, states)
        return sum(lives(tail, time) for tail in tails)


def _tails(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    return [tail_of(row["state"]) for row in rows]


def _entry(recorded: Recorded, time: datetime) -> Entry | None:
    event = recorded.event
    if not isinstance(event, KvSet) or not exists(event, time):
        return None
    return Entry(
        collection=event.collection,
        key=event.key,
        value=event.value,
        version=recorded.version,
        expires_at=event.expires_at,
        updated_at=recorded.recorded_at,
    )


def _behind(prefix: str) -> str:
    """The least text after all that begin with `prefix`, which does not consist of U+10FFFF alone."""
    kept = prefix.rstrip(_LAST_CHAR)
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
