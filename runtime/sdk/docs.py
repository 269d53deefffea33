"""docs for scripts: reads join the read set, effects are checked again as if the prelude had checked nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from uuid_utils.compat import uuid7

from domain import cursors
from domain.authz import Capability
from domain.docs import DocCreated, DocDeleted, DocUpdated, check_collection, check_id, doc_stream, matches
from domain.docs.evaluate import Place, compare_places, in_order, place_of
from domain.docs.events import CreateDoc, DeleteDoc, UpdateDoc, parse_data
from domain.docs.queries import MAX_LIMIT, Query, parse_query
from domain.errors import Invalid
from domain.events import Event
from domain.sandbox import LATER
from domain.units import ABSENT, Change
from domain.values import decode_json
from projections.docs.reads import Document, count_documents, find_documents, read_document
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh
from runtime.services import Access, Service, as_script_error, rfc3339

MAX_OVERLAY: Final = 1000
MAX_QUERY_BYTES: Final = 2 * 1024 * 1024
"""A filter, and as its `$cursor` a whole document."""
MAX_FOUND_BYTES: Final = 4 * 1024 * 1024

_CURSOR: Final = "docs"

Overlay = dict[str, Any]
"""This run's own changes of a collection: the data of each document, None where it is deleted."""


async def docs_get(access: Access, collection: object, doc_id: object) -> dict[str, Any] | None:
    """`{id, data (JSON text), created_at, updated_at, version}`, or None when there is none."""
    name, wanted = _about_to_get(access, collection, doc_id)
    document = await read_document(access.reader, access.app_id, name, wanted)
    access.note(doc_stream(name, wanted), ABSENT if document is None else document.version)
    return None if document is None else _shown(document)


def docs_get_now(access: Access, collection: object, doc_id: object) -> Any:
    """What `docs_get` would answer, from the document's last event if that is remembered, else `LATER`."""
    name, wanted = _about_to_get(access, collection, doc_id)
    stream = doc_stream(name, wanted)
    known = access.recall(stream)
    if known is None:
        return LATER
    last = known.last
    if not isinstance(last, DocCreated | DocUpdated):
        access.note(stream, ABSENT)
        return None
    access.note(stream, known.version)
    assert known.recorded_at is not None
    return _row(wanted, last.data, known.version, last.created_at, known.recorded_at)


def docs_new_id(access: Access) -> str:
    """An id for a new document."""
    access.require("docs", Capability.DOCS_WRITE)
    return str(uuid7())


async def docs_find(access: Access, collection: object, text: object, limit: object, overlay: object) -> list[dict[str, Any]]:
    """The documents that a query (JSON text) finds; of those in this run's overlay the id alone. `limit` goes before the query's own."""
    access.require("docs", Capability.DOCS_READ)
    name, query, changes = await _arguments(collection, text, overlay, limit)
    rows, more = await _page(access, name, query, changes)
    if more and len(rows) < query.limit:
        raise ValueError(f"docs: what is found has more than {MAX_FOUND_BYTES} bytes; ask for less at once with $limit")
    return rows


async def docs_list(access: Access, collection: object, limit: object, cursor: object, overlay: object) -> dict[str, Any]:
    """A page of documents by id, as `docs_find` shows them. Shorter where the documents are long."""
    access.require("docs", Capability.DOCS_READ)
    name, query, changes = await _arguments(collection, "{}", overlay, limit, cursor)
    rows, more = await _page(access, name, query, changes)
    return {"items": rows, "next_cursor": cursors.encode(_CURSOR, rows[-1]["id"]) if more else None}


async def docs_count(access: Access, collection: object, text: object, overlay: object) -> int:
    """How many documents pass a filter. They do not join the read set."""
    access.require("docs", Capability.DOCS_READ)
    name, query, changes = await _arguments(collection, text, overlay)
    committed = await count_documents(access.reader, access.app_id, name, query.only, without=list(changes))
    own = await off_loop(weigh(changes, MAX_ON_LOOP_BYTES), lambda: sum(data is not None and matches(query.only, data) for data in changes.values()))
    return committed + own


def docs_create(access: Access, collection: object, doc_id: object, text: object) -> Change:
    """The effect of `create`; `text` is JSON."""
    access.require("docs", Capability.DOCS_WRITE)
    try:
        return Change(CreateDoc(collection=check_collection(collection), id=check_id(doc_id), data=parse_data(text)))
    except Invalid as error:
        raise as_script_error(error, "docs") from error


def docs_update(access: Access, collection: object, doc_id: object, text: object) -> Change:
    """The effect of `update`, and of `patch` with what it came to."""
    access.require("docs", Capability.DOCS_WRITE)
    try:
        return Change(UpdateDoc(collection=check_collection(collection), id=check_id(doc_id), data=parse_data(text)))
    except Invalid as error:
        raise as_script_error(error, "docs") from error


def docs_delete(access: Access, collection: object, doc_id: object) -> Change:
    """The effect of `delete`."""
    access.require("docs", Capability.DOCS_WRITE)
    try:
        return Change(DeleteDoc(collection=check_collection(collection), id=check_id(doc_id)))
    except Invalid as error:
        raise as_script_error(error, "docs") from error


def describe(event: Event, before: Event | None) -> dict[str, Any]:
    """`ctx.event.docs`: the document's data after the event and before it, each None when there was none."""
    if not isinstance(event, DocCreated | DocUpdated | DocDeleted):
        msg = f"{event.TOPIC} is no event of docs"
        raise TypeError(msg)
    return {"collection": event.collection, "id": event.id, "data": _data(event), "prev_data": _data(before)}


def _data(event: Event | None) -> Any:
    return msgspec.json.decode(event.data) if isinstance(event, DocCreated | DocUpdated) else None


def _about_to_get(access: Access, collection: object, doc_id: object) -> tuple[str, str]:
    """The names of a document that may be read, and is next."""
    access.require("docs", Capability.DOCS_READ)
    try:
        name, wanted = check_collection(collection), check_id(doc_id)
    except Invalid as error:
        raise as_script_error(error, "docs") from error
    access.announce(doc_stream(name, wanted))
    return name, wanted


async def _arguments(collection: object, text: object, overlay: object, limit: object = None, cursor: object = None) -> tuple[str, Query, Overlay]:
    """What a call that finds documents was given, checked; long ones are read in a thread."""
    try:
        name = check_collection(collection)
        return await off_loop(weigh([text, overlay], MAX_ON_LOOP_BYTES), lambda: (name, _query(text, limit, cursor), _overlay(overlay)))
    except Invalid as error:
        raise as_script_error(error, "docs") from error


def _query(text: object, limit: object, cursor: object) -> Query:
    """The query of a JSON text; a limit and a cursor of a list go before its own."""
    if not isinstance(text, str):
        raise Invalid("filter must be JSON text", field="filter")
    query = parse_query(decode_json(text.encode(errors="surrogatepass"), "filter", max_bytes=MAX_QUERY_BYTES))
    return msgspec.structs.replace(query, limit=query.limit if limit is None else _limit(limit), after=query.after if cursor is None else _after(cursor))


def _overlay(overlay: object) -> Overlay:
    if not isinstance(overlay, dict) or len(overlay) > MAX_OVERLAY:
        raise Invalid(f"overlay must be an object of at most {MAX_OVERLAY} documents", field="overlay")
    return {check_id(doc_id): None if text is None else msgspec.json.decode(parse_data(text)) for doc_id, text in overlay.items()}


def _limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}", field="limit")
    return limit


def _after(cursor: object) -> Place:
    if not isinstance(cursor, str):
        raise Invalid("cursor must be a string", field="cursor")
    (doc_id,) = cursors.decode(cursor, _CURSOR, (str,))
    return Place((), doc_id)


async def _page(access: Access, name: str, query: Query, changes: Overlay) -> tuple[list[dict[str, Any]], bool]:
    """Committed documents with this run's own merged in before the limit, and whether more follow. What is committed among them has been read."""
    committed, more = await find_documents(access.reader, access.app_id, name, query, max_bytes=MAX_FOUND_BYTES, without=list(changes))
    ids = [document.id for document in committed]
    if changes:
        size = weigh(changes, MAX_ON_LOOP_BYTES) + sum(len(bytes(document.data)) for document in committed)
        ids = await off_loop(size, lambda: _merged(query, committed, changes, more=more))
    return _noted(access, name, {document.id: document for document in committed}, ids[: query.limit]), more or len(ids) > query.limit


def _merged(query: Query, committed: Sequence[Document], changes: Overlay, *, more: bool) -> list[str]:
    """The ids of the page in order: what this run has changed and the query finds, among the committed documents that were read."""
    sort = query.sort
    places = [place_of(sort, document.id, msgspec.json.decode(document.data)) for document in committed]
    horizon = places[-1] if more else None
    for doc_id, data in changes.items():
        if data is None or not matches(query.only, data):
            continue
        place = place_of(sort, doc_id, data)
        if (query.after is None or compare_places(sort, query.after, place) < 0) and (horizon is None or compare_places(sort, place, horizon) < 0):
            places.append(place)
    return [place.id for place in sorted(places, key=in_order(sort))]


def _noted(access: Access, name: str, committed: Mapping[str, Document], ids: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for doc_id in ids:
        document = committed.get(doc_id)
        if document is not None:
            stream = doc_stream(name, doc_id)
            access.announce(stream)
            access.note(stream, document.version)
        rows.append({"id": doc_id} if document is None else _shown(document))
    return rows


def _shown(document: Document) -> dict[str, Any]:
    return _row(document.id, document.data, document.version, document.created_at, document.updated_at)


def _row(doc_id: str, data: msgspec.Raw, version: int, created_at: datetime, updated_at: datetime) -> dict[str, Any]:
    return {"id": doc_id, "data": bytes(data).decode(), "created_at": rfc3339(created_at), "updated_at": rfc3339(updated_at), "version": version}


DOCS: Final = Service(
    name="docs",
    calls={"docs_get": docs_get, "docs_find": docs_find, "docs_list": docs_list, "docs_count": docs_count},
    now={"docs_get": docs_get_now, "docs_new_id": docs_new_id},
    effects={"docs_create": docs_create, "docs_update": docs_update, "docs_delete": docs_delete},
    needs=dict.fromkeys(("docs_create", "docs_update", "docs_delete"), Capability.DOCS_WRITE),
    event=describe,
)
