"""What is there, and how many bytes it has: entries, documents, files, scripts, routes, triggers, registered topics.

Each is a stream whose last event says whether it is there. Bytes are those of the JSON text of a value or of a document's data, of a file's content, of a
script's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.docs.events import DocCreated, DocDeleted, DocUpdated
from domain.events import Event, Recorded
from domain.files import FileCreated, FileDeleted, FileUpdated
from domain.kv import KvDeleted, KvExpired, KvSet
from domain.routes import RouteCreated, RouteDeleted
from domain.scripts import ScriptDeleted, ScriptSaved
from domain.topics import TopicDeleted, TopicSaved
from domain.triggers import TriggerDeleted, TriggerSaved


class Size(msgspec.Struct, frozen=True):
    """What a stream's last event makes of its subject; `bytes` None: it is gone."""

    kind: str
    collection: str
    bytes: int | None


_BYTES: Final[Mapping[type[Event], tuple[str, Callable[[Any], int | None]]]] = {
    KvSet: ("kv", lambda event: len(bytes(event.value))),
    KvDeleted: ("kv", lambda _: None),
    KvExpired: ("kv", lambda _: None),
    DocCreated: ("docs", lambda event: len(bytes(event.data))),
    DocUpdated: ("docs", lambda event: len(bytes(event.data))),
    DocDeleted: ("docs", lambda _: None),
    FileCreated: ("files", lambda event: event.size),
    FileUpdated: ("files", lambda event: event.size),
    FileDeleted: ("files", lambda _: None),
    ScriptSaved: ("scripts", lambda event: len(event.source.encode())),
    ScriptDeleted: ("scripts", lambda _: None),
    RouteCreated: ("routes", lambda _: 0),
    RouteDeleted: ("routes", lambda _: None),
    TriggerSaved: ("triggers", lambda _: 0),
    TriggerDeleted: ("triggers", lambda _: None),
    TopicSaved: ("topics", lambda _: 0),
    TopicDeleted: ("topics", lambda _: None),
}


def sizes(events: Iterable[Recorded]) -> dict[tuple[UUID, str], Size]:
    """The last size of each stream that has one."""
    return {(recorded.app_id, recorded.stream): size for recorded in events if (size := _size(recorded.event)) is not None}


def _size(event: Event) -> Size | None:
    found = _BYTES.get(type(event))
    if found is None:
        return None
    kind, size_of = found
    return Size(kind, getattr(event, "collection", ""), size_of(event))


def columns(found: Mapping[tuple[UUID, str], Size]) -> Sequence[list[object]]:
    """Sizes as the arrays of a statement."""
    rows = [(*stream, size.kind, size.collection, size.bytes) for stream, size in found.items()]
    return [list(column) for column in zip(*rows, strict=True)]
