"""What can be followed: one `LiveKind` each, registered here and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from domain.events import Event, Recorded
from domain.ids import stream
from domain.kv import KvDeleted, KvExpired, KvSet
from domain.ports import Reader
from domain.pubsub import Published
from projections.kv.reads import page_entries
from runtime.live.channel import Key, LiveName, Only
from runtime.live.documents import Documents
from runtime.live.frames import entry_frame, message_frame
from runtime.live.tails import Ends, Events

PAGE_ITEMS: Final = 500
PAGE_BYTES: Final = 256 * 1024

Pages = AsyncIterator[tuple[list[object], bool]]
"""Items of a snapshot, and whether more pages follow."""


class LiveKind(Protocol):
    """`events` are those that a channel of this kind may show.

    `only` narrows the log to a channel's events, or to few more. `has_snapshot` says that a new subscriber is shown what is there.
    How an event is shown is one word, `upsert` or `delete`, so that channels that show it alike share one frame.
    """

    @property
    def kind(self) -> LiveName: ...
    @property
    def events(self) -> tuple[type[Event], ...]: ...
    @property
    def has_snapshot(self) -> bool: ...

    def name_of(self, event: Event) -> str:
        """The topic or collection of an event."""
        ...

    def only(self, key: Key) -> Only:
        """See above."""
        ...

    def asks_before(self, event: Event) -> bool:
        """Whether a filter can only judge it with the event that came before in the stream."""
        ...

    def facts(self, recorded: Recorded, before: Event | None) -> Any:
        """What filters judge an event by. May take long: it is asked for off the loop."""
        ...

    def how(self, event: Event, facts: Any, text: str) -> str | None:
        """How the event is shown behind a filter (empty: none, then there are no facts); None when it is not."""
        ...

    def frame(self, recorded: Recorded, how: str) -> bytes:
        """The event as it is shown."""
        ...

    def pages(self, reader: Reader, app_id: UUID, name: str, text: str, now: datetime) -> Pages:
        """What is there behind a filter, as `reader` sees it."""
        ...


class _Unfiltered:
    """What has no filters."""

    def asks_before(self, event: Event) -> bool:
        """See `LiveKind`."""
        return False

    def facts(self, recorded: Recorded, before: Event | None) -> None:
        """See `LiveKind`."""


class Topics(_Unfiltered):
    """Messages; there is nothing to be shown of those that are gone."""

    kind: LiveName = "topic"
    events: tuple[type[Event], ...] = (Published,)
    has_snapshot = False

    def name_of(self, event: Event) -> str:
        assert isinstance(event, Published)
        return event.topic

    def only(self, key: Key) -> Only:
        return Only(prefix=stream("pubsub", key.name) + ":")

    def how(self, event: Event, facts: Any, text: str) -> str:
        return "message"

    def frame(self, recorded: Recorded, how: str) -> bytes:
        return message_frame(recorded)

    async def pages(self, reader: Reader, app_id: UUID, name: str, text: str, now: datetime) -> Pages:
        yield [], False


class Entries(_Unfiltered):
    """Key-value entries of a collection. Those whose time is up are not there."""

    kind: LiveName = "kv"
    events: tuple[type[Event], ...] = (KvSet, KvDeleted, KvExpired)
    has_snapshot = True

    def name_of(self, event: Event) -> str:
        assert isinstance(event, KvSet | KvDeleted | KvExpired)
        return event.collection

    def only(self, key: Key) -> Only:
        return Only(prefix=stream("kv", key.name) + ":")

    def how(self, event: Event, facts: Any, text: str) -> str:
        return "upsert" if isinstance(event, KvSet) else "delete"

    def frame(self, recorded: Recorded, how: str) -> bytes:
        return entry_frame(recorded)

    async def pages(self, reader: Reader, app_id: UUID, name: str, text: str, now: datetime) -> Pages:
        after, more = None, True
        while more:
            items, more = await page_entries(reader, app_id, name, "", after, now, limit=PAGE_ITEMS, max_bytes=PAGE_BYTES)
            after = items[-1].key if items else None
            yield list(items), more


_KINDS: Final[tuple[LiveKind, ...]] = (
    Topics(),
    Entries(),
    Documents(),
)

TAILS: Final[tuple[LiveKind, ...]] = (Events(), Ends())
"""What administration follows. An event is of one other kind at most, and of any number of these."""

KIND_OF: Final[Mapping[type[Event], LiveKind]] = {event: kind for kind in _KINDS for event in kind.events}
"""The kind that each event is of."""

KINDS: Final[Mapping[LiveName, LiveKind]] = {kind.kind: kind for kind in (*_KINDS, *TAILS)}
"""Everything that can be followed, by its kind."""
