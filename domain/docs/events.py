"""What happens to documents, and how it is decided at the head of the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from domain.aggregates import Aggregate, TriggerSubject
from domain.errors import Invalid
from domain.events import Event
from domain.globs import candidates
from domain.ids import stream
from domain.units import Effect
from domain.values import check_bounded_text, decode_json, encode_json

MAX_COLLECTION_BYTES: Final = 128
MAX_ID_BYTES: Final = 512
MAX_DATA_BYTES: Final = 1024 * 1024


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


class DeleteDoc(_DocEffect, frozen=True, kw_only=True):
    """Delete a document; nothing happens when there is none."""


def doc_stream(collection: str, doc_id: str) -> str:
    """The stream of one document."""
    return stream("docs", collection, doc_id)


def check_collection(name: object, field: str = "collection") -> str:
    """A collection's name: 1-128 bytes of UTF-8 without NUL; raises Invalid."""
    return check_bounded_text(name, field, MAX_COLLECTION_BYTES, "docs: collection name")


def check_id(doc_id: object, field: str = "id") -> str:
    """A document's id: 1-512 bytes of UTF-8 without NUL; raises Invalid."""
    return check_bounded_text(doc_id, field, MAX_ID_BYTES, "docs: id")


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
    if not isinstance(last, DocCreated | DocUpdated):
        raise Invalid(f"docs: there is no document {effect.id!r}", field="id", code="no_such_document")
    return (_updated(effect, last.created_at),)


def decide_put(effect: PutDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Create or replace."""
    if isinstance(last, DocCreated | DocUpdated):
        return (_updated(effect, last.created_at),)
    return (DocCreated(collection=effect.collection, id=effect.id, data=effect.data, created_at=now),)


def decide_delete(effect: DeleteDoc, last: Event | None, now: datetime) -> Sequence[Event]:
    """Delete what is there."""
    del now
    return (DocDeleted(collection=effect.collection, id=effect.id),) if isinstance(last, DocCreated | DocUpdated) else ()


def trigger_subject(event: Event) -> TriggerSubject | None:
    """Triggers on documents match by collection and op."""
    if isinstance(event, DocCreated | DocUpdated | DocDeleted):
        return TriggerSubject("docs", event.op, tuple(candidates(event.collection)))
    return None


def _updated(effect: UpdateDoc | PutDoc, created_at: datetime) -> DocUpdated:
    return DocUpdated(collection=effect.collection, id=effect.id, data=effect.data, created_at=created_at)


AGGREGATE: Final = Aggregate(
    kind="docs",
    events=(DocCreated, DocUpdated, DocDeleted),
    deciders={CreateDoc: decide_create, UpdateDoc: decide_update, PutDoc: decide_put, DeleteDoc: decide_delete},
    exists=exists,
    subject=trigger_subject,
)
