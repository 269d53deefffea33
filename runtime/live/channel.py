"""A channel: the window of recent frames of one topic or collection, and those who follow it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Literal

import anyio
import msgspec

from domain.topics import TopicKind

if TYPE_CHECKING:
    from runtime.live.snapshots import Snapshot
    from runtime.live.subscription import Subscription

WINDOW_FRAMES: Final = 1024
WINDOW_BYTES: Final = 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024
"""What is handed to a connection at once; about as much as it buffers before it says that its reader is slow."""
_KEPT_CHUNKS: Final = 64


LiveName = TopicKind | Literal["events", "executions"]
"""What may be registered as a topic, and what administration alone may follow."""


class Key(msgspec.Struct, frozen=True):
    """What is followed. `filter` is the canonical text of a filter, empty for all."""

    kind: LiveName
    name: str
    filter: str = ""

    @property
    def registered_as(self) -> TopicKind:
        """The kind of topic that must be registered for others to follow it. Raises LookupError for what is administration's."""
        if self.kind == "events" or self.kind == "executions":  # noqa: PLR1714  # mypy understands only this
            raise LookupError(self.kind)
        return self.kind


class Only(msgspec.Struct, frozen=True, kw_only=True):
    """Which events of a log a channel is about, as far as the database can tell; None means any. `prefix` is what a stream's name begins with."""

    prefix: str = ""
    topics: tuple[str, ...] | None = None
    stream: str | None = None
    actor: str | None = None
    correlation_id: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """Frames in a row: their bytes, the position that they reach, and how many there are."""

    data: bytes
    last: int
    frames: int


class Reading:
    """A page that is being read from the log. `chunk` is None when the reading has failed."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.chunk: Chunk | None = None


class Channel:
    """Holds every frame above `floor`, up to what its feed has seen.

    The window is bounded in frames and bytes, but always has its newest frame.
    """

    def __init__(self, key: Key, floor: int) -> None:
        self.key = key
        self.floor = floor
        self.subscribers: set[Subscription] = set()
        self.snapshot: Snapshot | None = None
        self.snapshot_lock = anyio.Lock()
        self.reads: dict[int, Reading] = {}
        self._positions: list[int] = []
        self._frames: list[bytes] = []
        self._bytes = 0
        self._chunks: dict[int, Chunk] = {}
        self._waiting: dict[Subscription, None] = {}
        self._is_waking = False

    def push(self, position: int, frame: bytes) -> None:
        """Add the frame of an event; whoever waits is woken once for all frames of this step of the loop."""
        self._positions.append(position)
        self._frames.append(frame)
        self._bytes += len(frame)
        self._chunks.clear()
        if len(self._frames) > 2 * WINDOW_FRAMES or self._bytes > 2 * WINDOW_BYTES:
            self._trim()
        if self._waiting and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def take(self, after: int) -> Chunk | None:
        """The next frames for whoever has everything up to `after`, which must not be below `floor`; None when there are none.

        Subscribers that stand at the same place are given the same bytes.
        """
        chunk = self._chunks.get(after)
        if chunk is None:
            chunk = self._chunk(after)
            if chunk is not None and len(self._chunks) < _KEPT_CHUNKS:
                self._chunks[after] = chunk
        return chunk

    def frames_after(self, position: int) -> int:
        """How many frames of the window are above a position."""
        return len(self._positions) - bisect_right(self._positions, position)

    def wait(self, subscription: Subscription) -> None:
        """Wake this one with the next frame, unless it is woken by something else and says `wait_no_more`."""
        self._waiting[subscription] = None

    def wait_no_more(self, subscription: Subscription) -> None:
        """It does not wait for a frame: on a channel where nothing happens nobody else would forget it."""
        self._waiting.pop(subscription, None)

    def _chunk(self, after: int) -> Chunk | None:
        start = bisect_right(self._positions, after)
        if start == len(self._positions):
            return None
        end, size = start + 1, len(self._frames[start])
        while end < len(self._frames) and size + len(self._frames[end]) <= CHUNK_BYTES:
            size += len(self._frames[end])
            end += 1
        data = self._frames[start] if end == start + 1 else b"".join(self._frames[start:end])
        return Chunk(data, self._positions[end - 1], end - start)

    def _trim(self) -> None:
        """Cut to half of what is held at most, so that cutting is rare."""
        cut = max(0, len(self._frames) - WINDOW_FRAMES)
        held = self._bytes - sum(map(len, self._frames[:cut]))
        while held > WINDOW_BYTES and cut < len(self._frames) - 1:
            held -= len(self._frames[cut])
            cut += 1
        if cut:
            self.floor = self._positions[cut - 1]
            del self._positions[:cut], self._frames[:cut]
            self._bytes = held

    def _wake(self) -> None:
        self._is_waking = False
        waiting, self._waiting = self._waiting, {}
        for subscription in waiting:
            subscription.wake()
