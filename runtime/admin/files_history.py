"""Files as they were: metadata from the log up to a position. Their bytes are all still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from adapters.postgres.log import PgLog
from domain.errors import Invalid
from domain.events import Recorded
from domain.files import FileCreated, FileDeleted, FileUpdated, file_stream
from domain.ids import stream
from domain.ports import Reader
from domain.statements import load_sql
from projections.files.reads import FileCollection, FileMeta

_SQL: Final = load_sql("runtime.admin", "files_history.sql")


class FilesHistory:
    """Reads metadata of the past."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        self._reader = reader
        self._log = log

    async def position(self, app_id: UUID, at: int | datetime, now: datetime) -> int:
        """The position of a moment. Raises Invalid naming `at` for one that has not come yet."""
        if isinstance(at, datetime):
            if at > now:
                raise Invalid("at: this time has not come yet", field="at")
            return await self._log.position_at(app_id, at)
        head = await self._log.head(app_id)
        if at > head:
            raise Invalid(f"at: the log of this app ends at position {head}", field="at", head=head)
        return at

    async def file(self, app_id: UUID, collection: str, file_id: UUID, position: int) -> FileMeta | None:
        """One file, None when it was absent."""
        rows = await self._reader.fetch(_SQL["file_at"], app_id, file_stream(collection, file_id), position)
        return next(iter(await self._metas(app_id, rows)), None)

    async def files(self, app_id: UUID, collection: str, after: UUID | None, position: int, limit: int) -> list[FileMeta]:
        """Up to `limit` files by id, after an id."""
        low = stream("files", collection, "") if after is None else file_stream(collection, after)
        rows = await self._reader.fetch(_SQL["files_at"], app_id, low, _behind(collection), position, FileDeleted.TOPIC, limit)
        return await self._metas(app_id, rows)

    async def collections(self, app_id: UUID, after: str | None, position: int, limit: int) -> list[FileCollection]:
        """Up to `limit` collections in the order of their streams, after a name, with how many files each had then (perhaps none)."""
        found: list[FileCollection] = []
        low = "files:" if after is None else _behind(after)
        while len(found) < limit:
            rows = await self._reader.fetch(_SQL["next_collection"], app_id, low, position)
            if not rows:
                break
            name = rows[0]["collection"].replace("%3A", ":").replace("%25", "%")
            start, low = stream("files", name, ""), _behind(name)
            (counted,) = await self._reader.fetch(_SQL["count_at"], app_id, start, low, position, FileDeleted.TOPIC)
            found.append(FileCollection(name, counted["files"]))
        return found

    async def _metas(self, app_id: UUID, rows: Sequence[Mapping[str, Any]]) -> list[FileMeta]:
        events = await self._log.read_positions([(app_id, row["position"]) for row in rows])
        metas = (_meta(events[app_id, row["position"]], row["created_at"]) for row in rows)
        return [meta for meta in metas if meta is not None]


def _meta(recorded: Recorded, created_at: datetime) -> FileMeta | None:
    event = recorded.event
    if not isinstance(event, FileCreated | FileUpdated):
        return None
    return FileMeta(
        collection=event.collection,
        id=event.id,
        name=event.name,
        content_type=event.content_type,
        size=event.size,
        checksum=event.checksum,
        version=recorded.version,
        created_at=created_at,
        updated_at=recorded.recorded_at,
    )


def _behind(collection: str) -> str:
    """The least text after all names of streams of a collection: `;` is what follows `:`."""
    return stream("files", collection) + ";"
