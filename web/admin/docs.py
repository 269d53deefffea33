"""`/apps/{app}/docs`: collections and documents, now or as they were (`?at=`), and finding them by filters."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_at, parse_limit
from domain.units import MAX_UNIT_BYTES
from projections.docs.reads import DocCollection, Document
from runtime.offloop import weigh
from web.admin.call import AdminCall, Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import docs_of
from web.bodies import convert_body
from web.documented import Action, Answer, documented
from web.pages import Page, cut_page, page
from web.paths import segment

_FIND: Final = ":find"
"""Litestar's path parameters are whole segments, so the handler takes it off."""


class CreateDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document's data, and its id if it is to have a certain one."""

    data: dict[str, Any]
    id: str | None = None


class PutDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a document's data; `if_version` is the version that must stand there (0: nothing)."""

    data: dict[str, Any]
    if_version: int | None = None


class PatchDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of a document's data; `if_version` is the version that must stand there."""

    merge: dict[str, Any]
    if_version: int | None = None


class FindDocuments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A filter as scripts write it, with `$sort`, `$limit` (100 unless given, at most 1000) and `$cursor` (the last `next_cursor`)."""

    filter: dict[str, Any] = {}


_POSTS: Final = (
    Action(
        id="create_document",
        summary="Create a document; 409 when there is one of this id",
        body=CreateDocument,
        answers={201: Answer(description="The document.", shape=Document)},
    ),
    Action(
        id="find_documents",
        suffix=_FIND,
        summary="The documents that a filter finds",
        body=FindDocuments,
        answers={200: Answer(description="A page of them.", shape=Page[Document])},
        needs=(Capability.DOCS_READ,),
    ),
)


@get("/apps/{app:str}/docs", opt=needs(Capability.DOCS_READ))
async def list_doc_collections(call: Call, app: Segment, limit: Query = None, cursor: Query = None, at: Query = None) -> Page[DocCollection]:
    """The collections of an app by name, each with the number of its documents."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "docs_collections", (str,))
    collections = await docs_of(call).collections(found.app_id, after, size + 1, _at(at))
    return page(collections, size, lambda item: encode("docs_collections", item.collection))


@get("/apps/{app:str}/docs/{collection:str}", opt=needs(Capability.DOCS_READ))
async def list_documents(call: Call, app: Segment, collection: Segment, limit: Query = None, cursor: Query = None, at: Query = None) -> Page[Document]:
    """Documents of a collection by id, in code-point order. A page ends early where its documents have 4 MiB."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "docs", (str,))
    documents = await docs_of(call).page(found.app_id, segment(collection, "collection"), after, size, _at(at))
    return cut_page(documents.more, documents.items, lambda document: encode("docs", document.id))


@post("/apps/{app:str}/docs/{collection:str}", opt=needs(Capability.DOCS_WRITE) | documented(actions=_POSTS))
async def post_documents(call: Call, app: Segment, collection: Segment, data: JSONBody[dict[str, Any]]) -> Response[Document] | Response[Page[Document]]:
    """Make a document of `{data, id?}`, 409 when there is one of this id; with `:find` behind the collection, a page of what `{filter}` finds."""
    if collection.endswith(_FIND):
        return Response(await _find(call, app, collection.removesuffix(_FIND), convert_body(data, FindDocuments)), status_code=200)
    return Response(await _create(call, app, collection, convert_body(data, CreateDocument)), status_code=201)


@get("/apps/{app:str}/docs/{collection:str}/{id:str}", opt=needs(Capability.DOCS_READ))
async def read_document(call: Call, app: Segment, collection: Segment, id: Segment, at: Query = None) -> Document:  # noqa: A002  # as the path names it
    """One document."""
    found = await call.app(app)
    return await docs_of(call).get(found.app_id, segment(collection, "collection"), segment(id, "id"), _at(at))


@put("/apps/{app:str}/docs/{collection:str}/{id:str}", opt=needs(Capability.DOCS_WRITE))
async def put_document(call: Call, app: Segment, collection: Segment, id: Segment, data: JSONBody[PutDocument]) -> Document:  # noqa: A002
    """Create or replace a document. 409 with `expected` and `found` when `if_version` does not hold."""
    found = await call.app(app)
    names = segment(collection, "collection"), segment(id, "id")
    await call.admit_write(found.app_id, weigh(data.data, MAX_UNIT_BYTES))
    return await docs_of(call).put(found.app_id, *names, data.data, data.if_version, call.acting)


@patch("/apps/{app:str}/docs/{collection:str}/{id:str}", opt=needs(Capability.DOCS_WRITE))
async def patch_document(call: Call, app: Segment, collection: Segment, id: Segment, data: JSONBody[PatchDocument]) -> Document:  # noqa: A002
    """Merge a patch into a document; 404 when there is none, 409 as for PUT."""
    found = await call.app(app)
    names = segment(collection, "collection"), segment(id, "id")
    await call.admit_write(found.app_id, weigh(data.merge, MAX_UNIT_BYTES))
    return await docs_of(call).patch(found.app_id, *names, data.merge, data.if_version, call.acting)


@delete("/apps/{app:str}/docs/{collection:str}/{id:str}", opt=needs(Capability.DOCS_WRITE))
async def delete_document(call: Call, app: Segment, collection: Segment, id: Segment) -> None:  # noqa: A002
    """Delete a document; 404 when there is none."""
    found = await call.app(app)
    await docs_of(call).delete(found.app_id, segment(collection, "collection"), segment(id, "id"), call.acting)


async def _create(call: AdminCall, app: str, collection: str, data: CreateDocument) -> Document:
    found = await call.app(app)
    await call.admit_write(found.app_id, weigh(data.data, MAX_UNIT_BYTES))
    return await docs_of(call).create(found.app_id, segment(collection, "collection"), data.id, data.data, call.acting)


async def _find(call: AdminCall, app: str, collection: str, data: FindDocuments) -> Page[Document]:
    found = await call.app(app, Capability.DOCS_READ)
    return Page(*await docs_of(call).find(found.app_id, segment(collection, "collection"), data.filter))


def _at(text: str | None) -> int | datetime | None:
    return None if text is None else parse_at(text)


router: Final = Router(
    path="/",
    route_handlers=[
        list_doc_collections,
        list_documents,
        post_documents,
        read_document,
        put_document,
        patch_document,
        delete_document,
    ],
    tags=["docs"],
)
