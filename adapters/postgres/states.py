"""What the writer knows of heads and streams, so that a batch on known streams needs no read.

An app's streams are true at exactly its head here: a batch is committed by compare-and-swap on that head, so what another process has made stale is never acted
upon. A head that turns out to have moved takes all that is known of its app with it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.judge import Head
from domain.units import Stream

MAX_STREAMS: Final = 20_000
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_STREAM_BYTES: Final = 64 * 1024
_BYTES_BESIDE_STATE: Final = 500


class AppStates:
    """One app's head, None when unknown, and the streams known at it: those written or read from the table lately, and those before."""

    __slots__ = ("_old", "_young", "head")

    def __init__(self) -> None:
        self.head: Head | None = None
        self._young: dict[str, Stream] = {}
        self._old: dict[str, Stream] = {}

    def get(self, name: str) -> Stream | None:
        """A stream's state at the head, if known."""
        return self._young.get(name) or self._old.get(name)

    def put(self, name: str, stream: Stream) -> bool:
        """Remember a stream's state at the head. True when it is new among the late ones."""
        is_new = name not in self._young
        self._young[name] = stream
        return is_new

    def drop(self, name: str) -> None:
        """Forget a stream."""
        self._young.pop(name, None)
        self._old.pop(name, None)

    def meet(self, head: Head) -> bool:
        """Take note of a head just read. True when it is not the one that was known, which takes all that was known with it."""
        moved = self.head is not None and self.head != head
        if moved:
            self.forget()
        self.head = head
        return moved

    def forget(self) -> None:
        """Forget everything."""
        self.head = None
        self._young, self._old = {}, {}

    def age(self) -> bool:
        """Forget what has been here since before the last time. True when nothing is left."""
        self._old, self._young = self._young, {}
        return not self._old


class StateCache:
    """All apps' states, within bounds on their number and bytes: when one generation of streams is full, the one before it goes."""

    def __init__(self, max_streams: int = MAX_STREAMS, max_bytes: int = MAX_BYTES) -> None:
        self._max_streams = max_streams // 2
        self._max_bytes = max_bytes // 2
        self._apps: dict[UUID, AppStates] = {}
        self._streams = 0
        self._bytes = 0

    def app(self, app_id: UUID) -> AppStates:
        """What is known of an app."""
        states = self._apps.get(app_id)
        if states is None:
            states = self._apps[app_id] = AppStates()
        return states

    def recall(self, app_id: UUID, name: str, at_least: int) -> Stream | None:
        """A stream's state if it is known at a head no older than position `at_least`.

        Any thread may ask while the writer goes on, so this changes nothing; what it finds was true a moment ago.
        """
        states = self._apps.get(app_id)
        head = None if states is None else states.head
        return None if states is None or head is None or head.position < at_least else states.get(name)

    def remember(self, states: AppStates, name: str, stream: Stream, size: int) -> None:
        """Keep a stream's state (`size` bytes encoded) until the app's head moves without us."""
        if size > MAX_STREAM_BYTES:
            states.drop(name)
            return
        if states.put(name, stream):
            self._streams += 1
        self._bytes += size + _BYTES_BESIDE_STATE
        if self._streams > self._max_streams or self._bytes > self._max_bytes:
            self._age()

    def _age(self) -> None:
        self._streams = self._bytes = 0
        self._apps = {app_id: states for app_id, states in self._apps.items() if not states.age()}
