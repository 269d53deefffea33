"""Documents for people: read now or as they were, found, created, replaced, patched and deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.clock import Clock
from domain.docs import DocCreated, DocUpdated, check_collection, check_id
from domain.docs.evaluate import Place
from domain.docs.events import CreateDoc, DeleteDoc, PutDoc, UpdateDoc, check_data
from domain.docs.filters import EVERYTHING
from domain.docs.merge_patch import merge_patch
from domain.docs.queries import Query, next_cursor, parse_query
from domain.errors import AlreadyExists, Conflict, Invalid, NotFound, VersionConflict
from domain.events import Recorded
from domain.ports import Reader
from domain.units import ABSENT, ANY, Change, Effect
from projections.docs.reads import DocCollection, Document, find_documents, page_collections, read_document
from runtime.admin.bounded import PAGE_BYTES, Cut
from runtime.admin.history import DataHistory, Kept
from runtime.admin.writing import Acting, AdminWriter, retried
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh

MAX_VERSION: Final = 2**63 - 1

At = int | datetime | None
"""A position, a time, or now."""


class DocsData:
    """The documents of all apps."""

    def __init__(self, reader: Reader, log: PgLog, writer: AdminWriter, clock: Clock) -> None:
        self._reader = reader
        self._history = DataHistory(reader, log, _KEPT)
        self._writer = writer
        self._clock = clock

    async def collections(self, app_id: UUID, after: str | None, limit: int, at: At) -> list[DocCollection]:
        """Collections with the number of their documents. Raises Invalid for `at` out of range."""
        if at is None:
            return await page_collections(self._reader, app_id, after, limit)
        moment = await self._history.moment(app_id, at, self._clock())
        return [DocCollection(name, documents) for name, documents in await self._history.collections(app_id, after, moment, limit)]

    async def page(self, app_id: UUID, collection: str, after: str | None, limit: int, at: At) -> Cut[Document]:
        """Up to `limit` documents by id, after an id, and no more once they have 4 MiB. Raises Invalid."""
        check_collection(collection)
        if at is not None:
            moment = await self._history.moment(app_id, at, self._clock())
            return await self._history.items(app_id, collection, "", after, moment, limit)
        query = Query(only=EVERYTHING, limit=limit, after=None if after is None else Place((), after))
        return Cut(*await find_documents(self._reader, app_id, collection, query, max_bytes=PAGE_BYTES))

    async def find(self, app_id: UUID, collection: str, raw: Any) -> tuple[list[Document], str | None]:
        """What a query finds, bounded as in `page`, and a cursor if more follow. Raises Invalid."""
        check_collection(collection)
        query = await off_loop(weigh(raw, MAX_ON_LOOP_BYTES), lambda: parse_query(raw))
        items, more = await find_documents(self._reader, app_id, collection, query, max_bytes=PAGE_BYTES)
        if not more:
            return items, None
        last = items[-1]
        size = len(bytes(last.data)) if query.sort else 0
        return items, await off_loop(size, lambda: next_cursor(query.sort, last.id, msgspec.json.decode(last.data) if query.sort else None))

    async def get(self, app_id: UUID, collection: str, doc_id: str, at: At) -> Document:
        """One document. Raises Invalid, or NotFound when there is none (or was, then)."""
        check_collection(collection)
        check_id(doc_id)
        if at is None:
            found = await read_document(self._reader, app_id, collection, doc_id)
        else:
            found = await self._history.item(app_id, collection, doc_id, await self._history.moment(app_id, at, self._clock()))
        if found is None:
            raise _missing()
        return found

    async def create(self, app_id: UUID, collection: str, doc_id: str | None, data: Any, acting: Acting) -> Document:
        """Make a document, with an id of its own if none is given. Raises Invalid, or Conflict when there is one of this id."""
        encoded = await _encoded(data)
        effect = CreateDoc(collection=check_collection(collection), id=str(uuid7()) if doc_id is None else check_id(doc_id), data=encoded)
        try:
            return await self._save(app_id, effect, ABSENT, acting)
        except AlreadyExists as error:
            raise Conflict(f"id: there is a document {effect.id!r} already", code="already_exists", field="id") from error

    async def put(self, app_id: UUID, collection: str, doc_id: str, data: Any, if_version: int | None, acting: Acting) -> Document:
        """Create or replace a document; `if_version` 0 expects none, None expects nothing. Raises Invalid, or Conflict with `expected` and `found`."""
        effect = PutDoc(collection=check_collection(collection), id=check_id(doc_id), data=await _encoded(data))
        try:
            return await self._save(app_id, effect, _expectation(if_version), acting)
        except VersionConflict as error:
            document = await read_document(self._reader, app_id, collection, doc_id)
            raise _mismatch(if_version, 0 if document is None else document.version) from error

    async def patch(self, app_id: UUID, collection: str, doc_id: str, merge: Any, if_version: int | None, acting: Acting) -> Document:
        """Merge a patch (RFC 7396) into a document. Raises as `put` does, and NotFound when there is none."""
        _expectation(if_version)

        async def attempt() -> Document:
            found = await self.get(app_id, collection, doc_id, None)
            if if_version not in {None, found.version}:
                raise _mismatch(if_version, found.version)
            size = weigh(merge, MAX_ON_LOOP_BYTES) + len(bytes(found.data))
            data = await off_loop(size, lambda: check_data(merge_patch(msgspec.json.decode(found.data), merge)))
            return await self._save(app_id, UpdateDoc(collection=collection, id=doc_id, data=data), found.version, acting)

        return await retried(attempt)

    async def delete(self, app_id: UUID, collection: str, doc_id: str, acting: Acting) -> None:
        """Delete a document. Raises Invalid, or NotFound when there is none."""
        effect = DeleteDoc(collection=check_collection(collection), id=check_id(doc_id))
        if not await self._writer.append(app_id, acting, [Change(effect)]):
            raise _missing()

    async def _save(self, app_id: UUID, effect: Effect, expect: int, acting: Acting) -> Document:
        events = await self._writer.append(app_id, acting, [Change(effect, expect)])
        document = _document(events[-1], events[-1].recorded_at)
        assert document is not None
        return document


async def _encoded(data: Any) -> msgspec.Raw:
    return await off_loop(weigh(data, MAX_ON_LOOP_BYTES), lambda: check_data(data))


def _document(recorded: Recorded, time: datetime) -> Document | None:
    del time
    event = recorded.event
    if not isinstance(event, DocCreated | DocUpdated):
        return None
    return Document(
        collection=event.collection,
        id=event.id,
        data=event.data,
        version=recorded.version,
        created_at=event.created_at,
        updated_at=recorded.recorded_at,
    )


def _missing() -> NotFound:
    return NotFound("there is no such document")


def _mismatch(expected: int | None, found: int) -> Conflict:
    """What stands there now, for whoever must decide what to do about it."""
    return Conflict(f"if_version: expected version {expected}, found {found}", code="version_conflict", field="if_version", expected=expected, found=found)


def _expectation(if_version: int | None) -> int:
    if if_version is None:
        return ANY
    if not 0 <= if_version <= MAX_VERSION:
        raise Invalid(f"if_version: expected a whole number from 0 (absent) to {MAX_VERSION}", field="if_version")
    return ABSENT if if_version == 0 else if_version


_KEPT: Final = Kept(kind="docs", topics=(DocCreated.TOPIC, DocUpdated.TOPIC), item=_document, size=lambda document: len(bytes(document.data)))
