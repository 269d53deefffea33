"""Files for people: read now or as they were, uploaded, replaced and deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.blobs import Blob
from domain.clock import Clock
from domain.errors import Invalid, NotFound
from domain.events import Recorded
from domain.files import ABSENT_CODE, CreateFile, DeleteFile, FileCreated, FileUpdated, UpdateFile, check_collection
from domain.ports import Reader
from domain.units import ABSENT, Change
from projections.files.reads import FileCollection, FileMeta, page_collections, page_files, read_file
from runtime.admin.files_history import FilesHistory
from runtime.admin.writing import Acting, AdminWriter
from runtime.blobs import Blobs

At = int | datetime | None
"""A position, a time, or now."""


class FilesData:
    """The files of all apps."""

    def __init__(self, reader: Reader, log: PgLog, writer: AdminWriter, blobs: Blobs, clock: Clock) -> None:
        self._reader = reader
        self._log = log
        self._history = FilesHistory(reader, log)
        self._writer = writer
        self._blobs = blobs
        self._clock = clock

    async def collections(self, app_id: UUID, after: str | None, limit: int, at: At) -> list[FileCollection]:
        """Collections with the number of their files. Raises Invalid for `at` out of range."""
        if at is None:
            return await page_collections(self._reader, app_id, after, limit)
        return await self._history.collections(app_id, after, await self._history.position(app_id, at, self._clock()), limit)

    async def page(self, app_id: UUID, collection: str, after: UUID | None, limit: int, at: At) -> list[FileMeta]:
        """Up to `limit` files by id, after an id. Raises Invalid."""
        check_collection(collection)
        if at is None:
            return await page_files(self._reader, app_id, collection, after, limit)
        return await self._history.files(app_id, collection, after, await self._history.position(app_id, at, self._clock()), limit)

    async def get(self, app_id: UUID, collection: str, file_id: UUID, at: At) -> FileMeta:
        """One file's metadata. Raises Invalid, or NotFound when it is absent (or was, then)."""
        check_collection(collection)
        if at is None:
            found = await read_file(self._reader, app_id, collection, file_id)
        else:
            found = await self._history.file(app_id, collection, file_id, await self._history.position(app_id, at, self._clock()))
        if found is None:
            raise missing()
        return found

    def content(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Bytes of a file, checked (see `runtime.blobs`)."""
        return self._blobs.stream(blob, start, stop)

    async def create(self, app_id: UUID, collection: str, name: str, content_type: str, blob: Blob, acting: Acting) -> FileMeta:
        """Make a file of bytes that have just been stored; name and type were checked."""
        effect = CreateFile(collection=check_collection(collection), id=uuid7(), name=name, content_type=content_type, blob=blob)
        (recorded,) = await self._writer.append(app_id, acting, [Change(effect, ABSENT)])
        return _meta(recorded, recorded.recorded_at)

    async def replace(self, before: FileMeta, app_id: UUID, name: str | None, content_type: str | None, blob: Blob, acting: Acting) -> FileMeta:
        """Give a file other bytes, and perhaps another name or type; None keeps what it has. Raises NotFound when it was deleted meanwhile."""
        effect = UpdateFile(collection=before.collection, id=before.id, name=name, content_type=content_type, blob=blob)
        try:
            (recorded,) = await self._writer.append(app_id, acting, [Change(effect)])
        except Invalid as error:
            raise missing() if error.code == ABSENT_CODE else error from None
        return _meta(recorded, before.created_at)

    async def delete(self, app_id: UUID, collection: str, file_id: UUID, acting: Acting) -> None:
        """Delete a file. Raises Invalid, or NotFound when it is absent."""
        effect = DeleteFile(collection=check_collection(collection), id=file_id)
        if not await self._writer.append(app_id, acting, [Change(effect)]):
            raise missing()


def missing() -> NotFound:
    """What stands for a file that is not there."""
    return NotFound("there is no such file")


def _meta(recorded: Recorded, created_at: datetime) -> FileMeta:
    event = recorded.event
    assert isinstance(event, FileCreated | FileUpdated)
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
