"""Documents as they can be followed: behind a filter, one that stops matching is deleted, and one that starts to match is upserted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.docs.evaluate import Place, matches
from domain.docs.events import DocCreated, DocDeleted, DocUpdated
from domain.docs.filters import Filter, parse_filter
from domain.docs.queries import Query
from domain.events import Event, Recorded
from domain.ids import stream
from domain.ports import Reader
from domain.values import decode_json
from projections.docs.reads import find_documents
from runtime.live.channel import Key, LiveName, Only
from runtime.live.frames import change_frame

MAX_FILTER_BYTES: Final = 4096
_PAGE_ITEMS: Final = 500
_PAGE_BYTES: Final = 256 * 1024


class Facts(msgspec.Struct, frozen=True):
    """A document after an event and before it, each None when it was not there."""

    after: Any
    before: Any


def canonical_filter(text: str) -> str:
    """A filter in the one spelling that channels are told apart by; empty when it lets everything pass. Raises Invalid naming `filter`."""
    raw = decode_json(text, "filter", max_bytes=MAX_FILTER_BYTES)
    parse_filter(raw)
    return msgspec.json.encode(raw, order="sorted").decode() if raw else ""


class Documents:
    """Registered in `runtime.live.kinds`."""

    kind: LiveName = "docs"
    events: tuple[type[Event], ...] = (DocCreated, DocUpdated, DocDeleted)
    has_snapshot = True

    def name_of(self, event: Event) -> str:
        """See `LiveKind`."""
        assert isinstance(event, DocCreated | DocUpdated | DocDeleted)
        return event.collection

    def only(self, key: Key) -> Only:
        """See `LiveKind`."""
        return Only(prefix=stream("docs", key.name) + ":")

    def asks_before(self, event: Event) -> bool:
        """See `LiveKind`."""
        return not isinstance(event, DocCreated)

    def facts(self, recorded: Recorded, before: Event | None) -> Facts:
        """See `LiveKind`."""
        return Facts(_data(recorded.event), _data(before))

    def how(self, event: Event, facts: Facts | None, text: str) -> str | None:
        """See `LiveKind`."""
        if facts is None:
            return "delete" if isinstance(event, DocDeleted) else "upsert"
        only = _parsed(text)
        if facts.after is not None and matches(only, facts.after):
            return "upsert"
        return "delete" if facts.before is not None and matches(only, facts.before) else None

    def frame(self, recorded: Recorded, how: str) -> bytes:
        """See `LiveKind`."""
        event = recorded.event
        assert isinstance(event, DocCreated | DocUpdated | DocDeleted)
        fields: dict[str, object] = {"collection": event.collection, "id": event.id, "version": recorded.version}
        if how == "upsert" and not isinstance(event, DocDeleted):
            fields |= {"data": event.data, "created_at": event.created_at, "updated_at": recorded.recorded_at}
        return change_frame(recorded.position, how, fields)

    async def pages(self, reader: Reader, app_id: UUID, name: str, text: str, now: datetime) -> AsyncIterator[tuple[list[object], bool]]:
        """See `LiveKind`."""
        only = _parsed(text or "{}")
        after, more = None, True
        while more:
            query = Query(only=only, limit=_PAGE_ITEMS, after=after)
            items, more = await find_documents(reader, app_id, name, query, max_bytes=_PAGE_BYTES)
            after = Place((), items[-1].id) if items else None
            yield list(items), more


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Filter:
    return parse_filter(msgspec.json.decode(text))


def _data(event: Event | None) -> Any:
    return msgspec.json.decode(event.data) if isinstance(event, DocCreated | DocUpdated) else None
