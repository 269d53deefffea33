"""Events as server-sent events (WHATWG HTML, 9.2): `id` is the position in the app's log, `data` one line of JSON.

JSON that PiCloud stores has no line break outside its escapes, so it needs no splitting.
"""

from __future__ import annotations

from typing import Final

import msgspec

from domain.events import Recorded
from domain.kv import KvSet
from domain.pubsub import Published

_ENCODE: Final = msgspec.json.Encoder().encode


def opening(position: int) -> bytes:
    """Where a subscriber stands that has nothing yet: it dispatches no event, but a reconnection resumes from here."""
    return b": open\nid: %d\n\n" % position


def heartbeat(position: int) -> bytes:
    """A sign of life, with where the subscriber stands.

    A block without data dispatches no event, but its id becomes the last event id all the same (WHATWG HTML, 9.2.6, dispatching: the id is set before the
    data is looked at). So whoever reconnects where little happens does not go on from its last event, from which the log would have to be searched.
    """
    return b": heartbeat\nid: %d\n\n" % position


def tail_frame(position: int | None, item: msgspec.Struct) -> bytes:
    """Something that administration follows; what has no position leaves the last event id where it is."""
    identity = b"" if position is None else b"id: %d\n" % position
    return b"%bdata: %b\n\n" % (identity, _ENCODE(item))


def ending(reason: str) -> bytes:
    """The last event of a stream that the server ends."""
    return b"event: end\ndata: %b\n\n" % _ENCODE({"reason": reason})


def message_frame(recorded: Recorded) -> bytes:
    """A message on a topic."""
    event = recorded.event
    assert isinstance(event, Published)
    data = _ENCODE({"topic": event.topic, "message": event.message, "published_at": event.published_at})
    return b"id: %d\ndata: %b\n\n" % (recorded.position, data)


def entry_frame(recorded: Recorded) -> bytes:
    """A change of a key-value entry."""
    event = recorded.event
    if isinstance(event, KvSet):
        fields = {
            "collection": event.collection,
            "key": event.key,
            "value": event.value,
            "version": recorded.version,
            "expires_at": event.expires_at,
            "updated_at": recorded.recorded_at,
        }
        return change_frame(recorded.position, "upsert", fields)
    name: dict[str, object] = {field: getattr(event, field) for field in ("collection", "key")}
    return change_frame(recorded.position, "delete", {**name, "version": recorded.version})


def change_frame(position: int, name: str, fields: dict[str, object]) -> bytes:
    """An `upsert` or a `delete`."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), position, _ENCODE(fields))


def snapshot_frame(position: int, collection: str, items: list[object], *, complete: bool) -> bytes:
    """A part of a snapshot. Only the last one has an id: whoever breaks off before begins anew."""
    fields = {"collection": collection, "position": position, "items": items, "complete": complete}
    identity = b"id: %d\n" % position if complete else b""
    return b"event: snapshot\n%bdata: %b\n\n" % (identity, _ENCODE(fields))
