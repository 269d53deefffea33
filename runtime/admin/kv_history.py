"""Key-value data as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from anyio import to_thread

from adapters.postgres.log import PgLog
from domain.events import Recorded
from domain.kv import KvSet, exists
from domain.ports import Reader
from projections.kv.reads import Entry
from runtime.admin.history import SQL, DataHistory, Kept
from runtime.admin.kv_tails import lives, tail_of

_STATES: Final = 16


class KvHistory(DataHistory[Entry]):
    """Reads entries of the past."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        super().__init__(reader, log, Kept(kind="kv", topics=(KvSet.TOPIC,), item=_entry, size=lambda entry: len(bytes(entry.value))))

    async def alive(self, app_id: UUID, rows: Sequence[Mapping[str, Any]], time: datetime) -> int:
        """How many of these sets had not expired by a time; no value is decoded for it."""
        tails = [row["tail"] for row in rows if row["tail"] is not None]
        packed = [row["position"] for row in rows if row["tail"] is None]
        for start in range(0, len(packed), _STATES):
            states = await self._reader.fetch(SQL["states"], app_id, packed[start : start + _STATES])
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
