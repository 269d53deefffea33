"""The log for auditors: an app's events, one event, and every state that one thing ever had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.postgres.filters import filtered_read
from adapters.postgres.log import EventFilter, PgLog
from domain.errors import Invalid, NotFound
from domain.events import Recorded
from domain.ports import Reader
from domain.statements import load_sql
from runtime.admin.bounded import PAGE_BYTES, Cut, read_in_turn

_SQL: Final = load_sql("runtime.admin", "audit.sql")
_TICK: Final = timedelta(microseconds=1)


class Audit:
    """Reads logs. The nil app's is the instance's own."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        self._reader = reader
        self._log = log

    async def page(self, app_id: UUID, after: int, limit: int, only: EventFilter) -> Cut[Recorded]:
        """Up to `limit` events after a position that pass a filter, in order, and no more once they have 4 MiB.

        Raises Invalid for a position beyond the log's end.
        """
        if after:
            head = await self._log.head(app_id)
            if after > head:
                raise Invalid(f"after: the log ends at position {head}", field="after", head=head)
        above = None if only.since is None else await self._log.position_at(app_id, only.since - _TICK)
        up_to = None if only.until is None else await self._log.position_at(app_id, only.until - _TICK)
        found = filtered_read(app_id, after, limit + 1, only, above=above, up_to=up_to)
        rows = await self._reader.fetch(_SQL["weighed"].replace("{found}", found.sql), *found.args)
        return await self._cut(app_id, rows, limit)

    async def get(self, app_id: UUID, position: int) -> Recorded:
        """The event at a position. Raises NotFound."""
        found = (await self._log.read_positions([(app_id, position)])).get((app_id, position))
        if found is None:
            raise NotFound("there is no event at this position")
        return found

    async def history(self, app_id: UUID, stream: str, after: int, limit: int) -> Cut[Recorded]:
        """The events of one stream after a version, in order, bounded as in `page`. Raises NotFound for one that never was."""
        rows = await self._reader.fetch(_SQL["positions_of_stream"], app_id, stream, after, limit + 1)
        if not rows and await self._log.read_version(app_id, stream, 1) is None:
            raise NotFound("there never was such a thing")
        return await self._cut(app_id, rows, limit)

    async def _cut(self, app_id: UUID, rows: Sequence[Mapping[str, Any]], limit: int) -> Cut[Recorded]:
        items: list[Recorded] = []
        size = 0
        async for recorded in read_in_turn(self._log, app_id, rows[:limit]):
            items.append(recorded)
            size += len(msgspec.json.encode(recorded.event))
            if size >= PAGE_BYTES:
                break
        return Cut(items, len(items) < len(rows))
