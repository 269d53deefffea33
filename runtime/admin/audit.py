"""The log for auditors: an app's events, one event, and every state that one entry ever had."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from adapters.postgres.log import EventFilter, PgLog
from domain.errors import Invalid, NotFound
from domain.events import Recorded
from domain.kv import check_collection, check_key, entry_stream
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("runtime.admin", "audit.sql")


class Audit:
    """Reads logs. The nil app's is the instance's own."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        self._reader = reader
        self._log = log

    async def page(self, app_id: UUID, after: int, limit: int, only: EventFilter) -> list[Recorded]:
        """Events after a position that pass a filter, in order. Raises Invalid for a position beyond the log's end."""
        if after:
            head = await self._log.head(app_id)
            if after > head:
                raise Invalid(f"after: the log ends at position {head}", field="after", head=head)
        return await self._log.read_filtered(app_id, after, limit, only)

    async def get(self, app_id: UUID, position: int) -> Recorded:
        """The event at a position. Raises NotFound."""
        found = (await self._log.read_positions([(app_id, position)])).get((app_id, position))
        if found is None:
            raise NotFound("there is no event at this position")
        return found

    async def history_of_entry(self, app_id: UUID, collection: str, key: str, after: int, limit: int) -> list[Recorded]:
        """The events of one key-value entry after a version, in order. Raises Invalid, or NotFound for an entry that never was."""
        stream = entry_stream(check_collection(collection), check_key(key))
        rows = await self._reader.fetch(_SQL["positions_of_stream"], app_id, stream, after, limit)
        if not rows and await self._log.read_version(app_id, stream, 1) is None:
            raise NotFound("there never was such an entry")
        events = await self._log.read_positions([(app_id, row["position"]) for row in rows])
        return sorted(events.values(), key=lambda recorded: recorded.position)
