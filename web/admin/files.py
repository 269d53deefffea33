"""`/apps/{app}/files`: collections, files, and their bytes, now or as they were (`?at=`)."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from litestar import Request, Router, delete, get, post, put
from litestar.types import ASGIApp

from domain.authz import Capability
from domain.cursors import decode, encode, parse_at, parse_limit
from domain.errors import Invalid
from domain.files import DEFAULT_CONTENT_TYPE, check_collection
from projections.files.reads import FileCollection, FileMeta
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import files_of
from web.documented import documented
from web.downloads import CONDITIONS, DOWNLOADS, Download
from web.pages import Page, page
from web.paths import id_segment, segment
from web.uploads import read_upload


@get("/apps/{app:str}/files", opt=needs(Capability.FILES_READ))
async def list_file_collections(call: Call, app: Segment, limit: Query = None, cursor: Query = None, at: Query = None) -> Page[FileCollection]:
    """The collections of an app by name, each with the number of its files."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "file_collections", (str,))
    collections = await files_of(call).collections(found.app_id, after, size + 1, _at(at))
    return page(collections, size, lambda item: encode("file_collections", item.collection))


@get("/apps/{app:str}/files/{collection:str}", opt=needs(Capability.FILES_READ))
async def list_files(call: Call, app: Segment, collection: Segment, limit: Query = None, cursor: Query = None, at: Query = None) -> Page[FileMeta]:
    """The files of a collection in the order in which they were created."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "files", (UUID,))
    files = await files_of(call).page(found.app_id, _collection(collection), after, size + 1, _at(at))
    return page(files, size, lambda meta: encode("files", meta.id))


@post("/apps/{app:str}/files/{collection:str}", request_max_body_size=None, opt=needs(Capability.FILES_WRITE))
async def upload_file(call: Call, request: Request[Any, Any, Any], app: Segment, collection: Segment) -> FileMeta:
    """Upload a file as `multipart/form-data`: `file`, and optionally `name` and `content_type`, which otherwise are those of the part."""
    found = await call.app(app)
    name = _collection(collection)
    await call.admit_write(found.app_id)
    upload = await read_upload(request, call.core.blobs)
    await call.admit_write(found.app_id, upload.blob.size)
    if upload.name is None:
        raise Invalid("name: the file has none; give it as a field or as the part's filename", field="name")
    return await files_of(call).create(found.app_id, name, upload.name, upload.content_type or DEFAULT_CONTENT_TYPE, upload.blob, call.acting)


@get("/apps/{app:str}/files/{collection:str}/{file_id:str}", opt=needs(Capability.FILES_READ))
async def read_file(call: Call, app: Segment, collection: Segment, file_id: Segment, at: Query = None) -> FileMeta:
    """One file's metadata."""
    found = await call.app(app)
    return await files_of(call).get(found.app_id, _collection(collection), id_segment(file_id, "file"), _at(at))


@get(
    "/apps/{app:str}/files/{collection:str}/{file_id:str}/content",
    media_type="*/*",
    opt=needs(Capability.FILES_READ) | documented(answers=DOWNLOADS, problems=[416], request_headers=CONDITIONS),
)
async def download_file(call: Call, app: Segment, collection: Segment, file_id: Segment, at: Query = None) -> ASGIApp:
    """One file's bytes, or a single range of them. `ETag` is their SHA-256; `If-None-Match` and `If-Range` are understood."""
    found = await call.app(app)
    files = files_of(call)
    meta = await files.get(found.app_id, _collection(collection), id_segment(file_id, "file"), _at(at))
    return Download(meta, partial(files.content, meta.blob))


@put("/apps/{app:str}/files/{collection:str}/{file_id:str}", request_max_body_size=None, opt=needs(Capability.FILES_WRITE))
async def replace_file(call: Call, request: Request[Any, Any, Any], app: Segment, collection: Segment, file_id: Segment) -> FileMeta:
    """Replace a file's bytes with an upload as for a new one; name and type stay where the form does not say them."""
    found = await call.app(app)
    files = files_of(call)
    before = await files.get(found.app_id, _collection(collection), id_segment(file_id, "file"), None)
    await call.admit_write(found.app_id)
    upload = await read_upload(request, call.core.blobs)
    await call.admit_write(found.app_id, upload.blob.size)
    return await files.replace(before, found.app_id, upload.name, upload.content_type, upload.blob, call.acting)


@delete("/apps/{app:str}/files/{collection:str}/{file_id:str}", opt=needs(Capability.FILES_WRITE))
async def delete_file(call: Call, app: Segment, collection: Segment, file_id: Segment) -> None:
    """Delete a file; 404 when it is absent. What it was can still be read with `?at=`."""
    found = await call.app(app)
    await files_of(call).delete(found.app_id, _collection(collection), id_segment(file_id, "file"), call.acting)


def _collection(text: str) -> str:
    return check_collection(segment(text, "collection"))


def _at(text: str | None) -> int | datetime | None:
    return None if text is None else parse_at(text)


router: Final = Router(
    path="/",
    route_handlers=[list_file_collections, list_files, upload_file, read_file, download_file, replace_file, delete_file],
    tags=["files"],
)
