"""What the writer knows of heads and streams, so that a batch on known streams needs no read.

An app's entries are true at exactly its cached head: every batch is committed by compare-and-swap on that head, so an entry that another process has made stale can
never be acted upon. Whenever a head turns out to have moved, everything known of that app is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from domain.judge import Head
from domain.units import Stream

MAX_STREAMS: Final = 20_000


class StateCache:
    """Heads of all apps seen, and the least recently used streams up to `max_streams`."""

    def __init__(self, max_streams: int = MAX_STREAMS) -> None:
        self._max = max_streams
        self._heads: dict[UUID, Head] = {}
        self._streams: OrderedDict[tuple[UUID, str], Stream] = OrderedDict()
        self._by_app: dict[UUID, set[str]] = {}

    def head(self, app_id: UUID) -> Head | None:
        """The app's head as last seen."""
        return self._heads.get(app_id)

    def get(self, app_id: UUID, name: str) -> Stream | None:
        """A stream's state at the cached head, if known."""
        stream = self._streams.get((app_id, name))
        if stream is not None:
            self._streams.move_to_end((app_id, name))
        return stream

    def advance(self, app_id: UUID, head: Head, streams: Mapping[str, Stream]) -> None:
        """Record the head after our own batch and the streams it changed or had read."""
        self._heads[app_id] = head
        self._store(app_id, streams)

    def meet(self, app_id: UUID, head: Head) -> bool:
        """Compare a head just read with the cached one; forget the app and take the new head when they differ. True if they were equal."""
        known = self._heads.get(app_id)
        if known is not None and known.position == head.position and known.closed == head.closed:
            return True
        self.forget(app_id)
        self._heads[app_id] = head
        return False

    def forget(self, app_id: UUID) -> None:
        """Drop all that is known of an app."""
        self._heads.pop(app_id, None)
        for name in self._by_app.pop(app_id, ()):
            self._streams.pop((app_id, name), None)

    def _store(self, app_id: UUID, streams: Mapping[str, Stream]) -> None:
        names = self._by_app.setdefault(app_id, set())
        for name, stream in streams.items():
            self._streams[app_id, name] = stream
            self._streams.move_to_end((app_id, name))
            names.add(name)
        self._evict()

    def _evict(self) -> None:
        while len(self._streams) > self._max:
            (app_id, name), _ = self._streams.popitem(last=False)
            self._by_app[app_id].discard(name)


def names_missing(cache: StateCache, app_id: UUID, names: Iterable[str]) -> tuple[dict[str, Stream], list[str]]:
    """Split names into known states and those that must be read."""
    known: dict[str, Stream] = {}
    missing: list[str] = []
    for name in names:
        stream = cache.get(app_id, name)
        if stream is None:
            missing.append(name)
        else:
            known[name] = stream
    return known, missing
