"""What happens to documents, and how it is decided at the head of the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from domain.aggregates import Aggregate, TriggerSubject
from domain.docs.merge_patch import merge_patch
from domain.errors import Invalid
from domain.events import Event
from domain.globs import candidates
from domain.ids import stream
from domain.units import Effect
from domain.values import check_text, decode_json, encode_json

MAX_COLLECTION_BYTES: Final = 128
MAX_ID_BYTES: Final = 512
MAX_DATA_BYTES: Final = 1024 * 1024
MISSING_CODE: Final = "no_such_document"


class DocCreated(Event, frozen=True, kw_only=True):
    """A document came to be. `data` is the canonical text of a JSON object; `created_at` the clock of whoever made it, as its later events repeat it."""

    TOPIC = "docs.DocCreated"
    op: Literal["create"] = "create"
    collection: str
    id: str
    data: msgspec.Raw
    created_at: datetime


class DocUpdated(Event, frozen=True, kw_only=True):
    """A document has this data now, all of it."""

    TOPIC = "docs.DocUpdated"
    op: Literal["update"] = "update"
    collection: str
    id: str
    data: msgspec.Raw
    created_at: datetime


class DocDeleted(Event, frozen=True, kw_only=True):
    """A document was deleted."""

    TOPIC = "docs.DocDeleted"
    op: Literal["delete"] = "delete"
    collection: str
    id: str


class _DocEffect(Effect, frozen=True, kw_only=True):
    collection: str
    id: str

    @property
    def stream(self) -> str:
        return doc_stream(self.collection, self.id)


class CreateDoc(_DocEffect, frozen=True, kw_only=True):
    """Make a document; refused when there is one of this id. `data` is the canonical text of a JSON object."""

    data: msgspec.Raw


class UpdateDoc(_DocEffect, frozen=True, kw_only=True):
    """Replace the data of a document; refused when there is none."""

    data: msgspec.Raw


class PutDoc(_DocEffect, frozen=True, kw_only=True):
    """Let a document have this data, whether or not there was one."""

    data: msgspec.Raw


class PatchDoc(_DocEffect, frozen=True, kw_only=True):
    """Merge a patch (RFC 7396, the text of a JSON object) into whatever the document's data is at commit; refused when there is none."""

    merge: msgspec.Raw


class DeleteDoc(_DocEffect, frozen=True, kw_only=True):
    """Delete a document; nothing happens when there is none."""


def doc_stream(collection: str, doc_id: str) -> str:
    """The stream of one document."""
    return stream("docs", collection, doc_id)


def check_collection(name: object, field: str = "collection") -> str:
    """A collection's name: 1-128 bytes of UTF-8 without NUL; raises Invalid."""
    return _check_name(name, field, MAX_COLLECTION_BYTES, "docs: collection name")


def check_id(doc_id: object, field: str = "id") -> str:
    """A document's id: 1-512 bytes of UTF-8 without NUL; raises Invalid."""
    return _check_name(doc_id, field, MAX_ID_BYTES, "docs: id")


def check_data(data: object, field: str = "data") -> msgspec.Raw:
    """The canonical text of a document's data, a JSON object of at most 1 MiB; raises Invalid."""
    if not isinstance(data, dict):
        raise Invalid(f"docs: {field} must be an object", field=field)
    return msgspec.Raw(encode_json(data, field, max_bytes=MAX_DATA_BYTES))


def parse_data(text: object, field: str = "data") -> msgspec.Raw:
    """As `check_data`, from untrusted JSON text."""
    if not isinstance(text, str):
        raise Invalid(f"docs: {field} must be JSON text", field=field)
    return check_data(decode_json(text.encode(errors="surrogatepass"), field, max_bytes=MAX_DATA_BYTES), field)


def exists(last: Event, now: datetime) -> bool:
    """Whether a document whose last event is `last` exists."""
    del now
    return isinstance(last, DocCreated | DocUpdated)


def decide_create(effect: CreateDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Create what is not there."""
    if isinstance(last, DocCreated | DocUpdated):
        raise Invalid(f"docs: there is a document {effect.id!r} already", field="id", code="already_exists")
    return (DocCreated(collection=effect.collection, id=effect.id, data=effect.data, created_at=now),)


def decide_update(effect: UpdateDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Replace what is there."""
    del now
    return (_updated(effect, effect.data, _present(effect, last).created_at),)


def decide_put(effect: PutDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Create or replace."""
    if isinstance(last, DocCreated | DocUpdated):
        return (_updated(effect, effect.data, last.created_at),)
    return (DocCreated(collection=effect.collection, id=effect.id, data=effect.data, created_at=now),)


def decide_patch(effect: PatchDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Merge into what is there; raises Invalid when the result is too large or too deep."""
    del now
    found = _present(effect, last)
    merged: Any = merge_patch(msgspec.json.decode(found.data), msgspec.json.decode(effect.merge))
    return (_updated(effect, check_data(merged), found.created_at),)


def decide_delete(effect: DeleteDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Delete what is there."""
    del now
    return (DocDeleted(collection=effect.collection, id=effect.id),) if isinstance(last, DocCreated | DocUpdated) else ()


def trigger_subject(event: Event) -> TriggerSubject | None:
    """Triggers on documents match by collection and op."""
    if isinstance(event, DocCreated | DocUpdated | DocDeleted):
        return TriggerSubject("docs", event.op, tuple(candidates(event.collection)))
    return None


def _check_name(name: object, field: str, max_bytes: int, what: str) -> str:
    if not isinstance(name, str):
        raise Invalid(f"{what} must be a string, not {type(name).__name__}", field=field)
    check_text(name, field)
    if not 0 < len(name.encode()) <= max_bytes:
        raise Invalid(f"{what} must have 1 to {max_bytes} bytes, not {len(name.encode())}", field=field)
    return name


def _present(effect: _DocEffect, last: Event | None) -> DocCreated | DocUpdated:
    if not isinstance(last, DocCreated | DocUpdated):
        raise Invalid(f"docs: there is no document {effect.id!r}", field="id", code=MISSING_CODE)
    return last


def _updated(effect: _DocEffect, data: msgspec.Raw, created_at: datetime) -> DocUpdated:
    return DocUpdated(collection=effect.collection, id=effect.id, data=data, created_at=created_at)


AGGREGATE: Final = Aggregate(
    kind="docs",
    events=(DocCreated, DocUpdated, DocDeleted),
    deciders={CreateDoc: decide_create, UpdateDoc: decide_update, PutDoc: decide_put, PatchDoc: decide_patch, DeleteDoc: decide_delete},
    exists=exists,
    subject=trigger_subject,
)
