"""Files: `files:<collection>:<id>` streams of metadata; the bytes are blobs.

A file's id is used once: what was deleted never comes back, so the first event of a stream is when its file was created.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate, TriggerSubject
from domain.blobs import Blob
from domain.errors import AlreadyExists, Invalid
from domain.events import Event
from domain.globs import candidates
from domain.ids import stream
from domain.units import Effect
from domain.values import check_bounded_text

MAX_COLLECTION_BYTES: Final = 128
MAX_NAME_BYTES: Final = 255
MAX_CONTENT_TYPE_CHARS: Final = 255
ABSENT_CODE: Final = "file_not_found"
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

_WORD: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_CONTENT_TYPE: Final = re.compile(rf'{_WORD}/{_WORD}([ \t]*;[ \t]*{_WORD}=({_WORD}|"[ !#-\[\]-~]*"))*')
"""RFC 9110, 8.3.1, without quoted pairs."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class FileCreated(Event, frozen=True, kw_only=True):
    """There is a new file."""

    TOPIC = "files.FileCreated"
    op: Literal["create"] = "create"
    collection: str
    id: UUID
    name: str
    content_type: str
    size: int
    checksum: str


class FileUpdated(Event, frozen=True, kw_only=True):
    """A file has this metadata and these bytes now."""

    TOPIC = "files.FileUpdated"
    op: Literal["update"] = "update"
    collection: str
    id: UUID
    name: str
    content_type: str
    size: int
    checksum: str


class FileDeleted(Event, frozen=True, kw_only=True):
    """A file is gone. Its versions can still be read."""

    TOPIC = "files.FileDeleted"
    op: Literal["delete"] = "delete"
    collection: str
    id: UUID


class CreateFile(Effect, frozen=True, kw_only=True):
    """Make a file of bytes that are stored."""

    collection: str
    id: UUID
    name: str
    content_type: str
    blob: Blob

    @property
    def stream(self) -> str:
        return file_stream(self.collection, self.id)


class UpdateFile(Effect, frozen=True, kw_only=True):
    """Change a file; None keeps what is there at commit."""

    collection: str
    id: UUID
    name: str | None = None
    content_type: str | None = None
    blob: Blob | None = None

    @property
    def stream(self) -> str:
        return file_stream(self.collection, self.id)


class DeleteFile(Effect, frozen=True, kw_only=True):
    """Delete a file; nothing happens when it is absent."""

    collection: str
    id: UUID

    @property
    def stream(self) -> str:
        return file_stream(self.collection, self.id)


def file_stream(collection: str, file_id: UUID) -> str:
    """The stream of one file."""
    return stream("files", collection, file_id)


def check_collection(name: object, field: str = "collection") -> str:
    """A collection's name: 1-128 bytes of UTF-8 without NUL; raises Invalid."""
    return check_bounded_text(name, field, MAX_COLLECTION_BYTES, "files: collection name")


def check_name(name: object, field: str = "name") -> str:
    """A file's name: 1-255 bytes of UTF-8 without control characters. It is shown and offered to save as; nothing is ever stored under it. Raises Invalid."""
    text = check_bounded_text(name, field, MAX_NAME_BYTES, "files: name")
    if _CONTROL.search(text):
        raise Invalid("files: name must not contain control characters", field=field)
    return text


def check_content_type(text: object, field: str = "content_type") -> str:
    """A media type, as in `text/html; charset=utf-8`; raises Invalid."""
    if not isinstance(text, str) or len(text) > MAX_CONTENT_TYPE_CHARS or _CONTENT_TYPE.fullmatch(text) is None:
        raise Invalid(f"files: {field} must be a media type like text/plain, of at most {MAX_CONTENT_TYPE_CHARS} characters", field=field)
    return text


def exists(last: Event, now: datetime) -> bool:
    """Whether a file whose last event is `last` exists."""
    del now
    return isinstance(last, FileCreated | FileUpdated)


def decide_create(effect: CreateFile, last: Event | None, now: datetime) -> Sequence[Event]:
    """Create; an id that was ever used is refused."""
    del now
    if last is not None:
        raise AlreadyExists("files: this id was used before", field="id")
    return (FileCreated(name=effect.name, content_type=effect.content_type, **_place(effect), **msgspec.structs.asdict(effect.blob)),)


def decide_update(effect: UpdateFile, last: Event | None, now: datetime) -> Sequence[Event]:
    """Change what is there; raises Invalid when nothing is."""
    del now
    if not isinstance(last, FileCreated | FileUpdated):
        raise Invalid("files: there is no such file", code=ABSENT_CODE, field="id")
    blob = effect.blob or Blob(last.checksum, last.size)
    name, content_type = effect.name or last.name, effect.content_type or last.content_type
    return (FileUpdated(name=name, content_type=content_type, **_place(effect), **msgspec.structs.asdict(blob)),)


def decide_delete(effect: DeleteFile, last: Event | None, now: datetime) -> Sequence[Event]:
    """Delete what is there."""
    return (FileDeleted(**_place(effect)),) if last is not None and exists(last, now) else ()


def trigger_subject(event: Event) -> TriggerSubject | None:
    """Triggers on files match by collection and op."""
    if isinstance(event, FileCreated | FileUpdated | FileDeleted):
        return TriggerSubject("files", event.op, tuple(candidates(event.collection)))
    return None


def _place(effect: CreateFile | UpdateFile | DeleteFile) -> dict[str, Any]:
    return {"collection": effect.collection, "id": effect.id}


AGGREGATE: Final = Aggregate(
    kind="files",
    events=(FileCreated, FileUpdated, FileDeleted),
    deciders={CreateFile: decide_create, UpdateFile: decide_update, DeleteFile: decide_delete},
    exists=exists,
    subject=trigger_subject,
)
