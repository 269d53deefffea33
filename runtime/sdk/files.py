"""files for scripts: metadata joins the read set, bytes are staged, effects are checked again as if the prelude had checked nothing."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from domain import cursors
from domain.authz import Capability
from domain.errors import Invalid
from domain.events import Event
from domain.files import (
    CreateFile,
    DeleteFile,
    FileCreated,
    FileDeleted,
    FileUpdated,
    UpdateFile,
    check_collection,
    check_content_type,
    check_name,
    exists,
    file_stream,
)
from domain.ids import parse_uuid
from domain.sandbox import LATER
from domain.units import ABSENT, Change
from projections.files.reads import FileMeta, page_files, read_file
from runtime.services import Access, Service, as_script_error, rfc3339
from runtime.staging import Staging

MAX_LIMIT: Final = 1000
MAX_OVERLAY: Final = 1000


async def files_head(access: Access, collection: object, file_id: object) -> dict[str, Any] | None:
    """Metadata, or None when the file is absent."""
    place = _about_to_read(access, collection, file_id)
    if place is None:
        return None
    name, known_id = place
    meta = await read_file(access.reader, access.app_id, name, known_id)
    access.note(file_stream(name, known_id), ABSENT if meta is None else meta.version)
    return None if meta is None else _shown(access, meta)


def files_head_now(access: Access, collection: object, file_id: object) -> Any:
    """What `files_head` would answer, if the file's last event is remembered and tells when it was created; else `LATER`."""
    place = _about_to_read(access, collection, file_id)
    if place is None:
        return None
    stream = file_stream(*place)
    known = access.recall(stream)
    if known is None or (known.last is not None and exists(known.last, access.now) and known.version > 1):
        return LATER
    if not isinstance(known.last, FileCreated):
        access.note(stream, ABSENT)
        return None
    access.note(stream, known.version)
    assert known.recorded_at is not None
    event, at = known.last, known.recorded_at
    meta = FileMeta(
        collection=event.collection,
        id=event.id,
        name=event.name,
        content_type=event.content_type,
        size=event.size,
        checksum=event.checksum,
        version=known.version,
        created_at=at,
        updated_at=at,
    )
    return _shown(access, meta)


async def files_read(access: Access, checksum: object) -> bytes:
    """The bytes of a file that the run has been shown or has staged."""
    access.require("files", Capability.FILES_READ)
    data = await _staging(access).load(checksum)
    if data is None:
        raise PermissionError("files: this run has not been shown a file with these bytes")
    return data


async def files_stage(access: Access, name: object, content_type: object, data: object) -> dict[str, Any]:
    """Check what a file is to have (None: nothing said) and store its bytes; `{id, checksum, size}`, the last two None without bytes."""
    access.require("files", Capability.FILES_WRITE)
    try:
        _optional(name, content_type)
    except Invalid as error:
        raise as_script_error(error, "files") from error
    if data is None:
        return {"id": None, "checksum": None, "size": None}
    if not isinstance(data, bytes):
        raise TypeError(f"files: data must be bytes, not {type(data).__name__}")
    staging = _staging(access)
    blob = await staging.stage(data)
    return {"id": str(staging.new_id()), "checksum": blob.checksum, "size": blob.size}


async def files_list(access: Access, collection: object, limit: object, cursor: object, overlay: object) -> dict[str, Any]:
    """A page of files by id. Those that this run has changed stand in `overlay` (id: whether it is there) and come as their id alone."""
    access.require("files", Capability.FILES_READ)
    try:
        name, count, after = _list_arguments(collection, limit, cursor)
        changes = _overlay(overlay, after)
    except Invalid as error:
        raise as_script_error(error, "files") from error
    wanted = count + len(changes) + 1
    committed = await page_files(access.reader, access.app_id, name, after, wanted)
    horizon = None if len(committed) < wanted else committed[-1].id
    found: dict[UUID, FileMeta | None] = {meta.id: meta for meta in committed if meta.id not in changes}
    found.update({file_id: None for file_id, is_there in changes.items() if is_there and (horizon is None or file_id <= horizon)})
    ids = sorted(found)
    items = [_item(access, file_id, found[file_id]) for file_id in ids[:count]]
    following = ids[count - 1] if len(ids) > count else horizon
    return {"items": items, "next_cursor": None if following is None else cursors.encode("files", following)}


def files_create(access: Access, collection: object, file_id: object, name: object, content_type: object, checksum: object) -> Change:
    """The effect of `create`, of bytes and an id that this run was given."""
    access.require("files", Capability.FILES_WRITE)
    staging = _staging(access)
    known_id, blob = _id(file_id), staging.staged(checksum)
    if known_id is None or not staging.owns(known_id):
        raise ValueError("files: id is not one that this run was given")
    if blob is None:
        raise ValueError("files: checksum is not that of bytes that this run has staged")
    try:
        place = check_collection(collection)
        return Change(CreateFile(collection=place, id=known_id, name=check_name(name), content_type=check_content_type(content_type), blob=blob), ABSENT)
    except Invalid as error:
        raise as_script_error(error, "files") from error


def files_update(access: Access, collection: object, file_id: object, name: object, content_type: object, checksum: object) -> Change:
    """The effect of `update`; None keeps what is there."""
    access.require("files", Capability.FILES_WRITE)
    blob = _staging(access).staged(checksum)
    if checksum is not None and blob is None:
        raise ValueError("files: checksum is not that of bytes that this run has staged")
    known_id = _id(file_id)
    if known_id is None:
        raise ValueError("files: id is not that of a file")
    try:
        new_name, new_type = _optional(name, content_type)
        return Change(UpdateFile(collection=check_collection(collection), id=known_id, name=new_name, content_type=new_type, blob=blob))
    except Invalid as error:
        raise as_script_error(error, "files") from error


def files_delete(access: Access, collection: object, file_id: object) -> Change:
    """The effect of `delete`."""
    access.require("files", Capability.FILES_WRITE)
    known_id = _id(file_id)
    if known_id is None:
        raise ValueError("files: id is not that of a file")
    try:
        return Change(DeleteFile(collection=check_collection(collection), id=known_id))
    except Invalid as error:
        raise as_script_error(error, "files") from error


def describe(event: Event, before: Event | None) -> dict[str, Any]:
    """`ctx.event.files`: the file's metadata after the event, each None when it is gone, and `prev`, that before it."""
    if not isinstance(event, FileCreated | FileUpdated | FileDeleted):
        msg = f"{event.TOPIC} is no event of files"
        raise TypeError(msg)
    gone = {"name": None, "content_type": None, "size": None, "checksum": None}
    return {"collection": event.collection, "id": str(event.id), **(_metadata(event) or gone), "prev": _metadata(before)}


def _metadata(event: Event | None) -> dict[str, Any] | None:
    if not isinstance(event, FileCreated | FileUpdated):
        return None
    return {"name": event.name, "content_type": event.content_type, "size": event.size, "checksum": event.checksum}


def _staging(access: Access) -> Staging:
    assert access.files is not None, "every run that can make calls has one"
    return access.files


def _about_to_read(access: Access, collection: object, file_id: object) -> tuple[str, UUID] | None:
    """The place of a file that may be read, and is next; None for what cannot be a file's id."""
    access.require("files", Capability.FILES_READ)
    if not isinstance(file_id, str):
        raise TypeError(f"files: id must be str, not {type(file_id).__name__}")
    try:
        name = check_collection(collection)
    except Invalid as error:
        raise as_script_error(error, "files") from error
    known_id = _id(file_id)
    if known_id is None:
        return None
    access.announce(file_stream(name, known_id))
    return name, known_id


def _id(text: object) -> UUID | None:
    """A file's id as PiCloud writes it: another spelling would be a second name for the same file."""
    found = parse_uuid(text) if isinstance(text, str) else None
    return found if found is not None and str(found) == text else None


def _optional(name: object, content_type: object) -> tuple[str | None, str | None]:
    return None if name is None else check_name(name), None if content_type is None else check_content_type(content_type)


def _shown(access: Access, meta: FileMeta) -> dict[str, Any]:
    _staging(access).show(meta.blob)
    fields = {"id": str(meta.id), "name": meta.name, "content_type": meta.content_type, "size": meta.size, "checksum": meta.checksum}
    return {**fields, "created_at": rfc3339(meta.created_at), "updated_at": rfc3339(meta.updated_at), "version": meta.version}


def _item(access: Access, file_id: UUID, meta: FileMeta | None) -> dict[str, Any]:
    if meta is None:
        return {"id": str(file_id)}
    stream = file_stream(meta.collection, meta.id)
    access.announce(stream)
    access.note(stream, meta.version)
    return _shown(access, meta)


def _list_arguments(collection: object, limit: object, cursor: object) -> tuple[str, int, UUID | None]:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}", field="limit")
    after = None
    if cursor is not None:
        if not isinstance(cursor, str):
            raise Invalid("cursor must be a string", field="cursor")
        (after,) = cursors.decode(cursor, "files", (UUID,))
    return check_collection(collection), limit, after


def _overlay(overlay: object, after: UUID | None) -> dict[UUID, bool]:
    """This run's changes of the collection within the page's range, checked."""
    if not isinstance(overlay, dict) or len(overlay) > MAX_OVERLAY:
        raise Invalid(f"overlay must be an object of at most {MAX_OVERLAY} keys", field="overlay")
    changes: dict[UUID, bool] = {}
    for text, is_there in overlay.items():
        file_id = _id(text)
        if file_id is None or not isinstance(is_there, bool):
            raise Invalid("malformed change", field="overlay")
        if after is None or file_id > after:
            changes[file_id] = is_there
    return changes


FILES: Final = Service(
    name="files",
    calls={"files_head": files_head, "files_read": files_read, "files_stage": files_stage, "files_list": files_list},
    now={"files_head": files_head_now},
    effects={"files_create": files_create, "files_update": files_update, "files_delete": files_delete},
    needs=dict.fromkeys(("files_create", "files_update", "files_delete"), Capability.FILES_WRITE),
    event=describe,
)
