"""Snapshots: what a collection holds at exactly one position.

It is read in pages within one database snapshot, together with the log's head, as fast as the database gives it and not as fast as a subscriber takes it. So it
is kept until it is sent: in memory while it is small, in a temporary file otherwise. Subscribers that come soon after one another share one; each goes on with
the changes after the snapshot's position.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from adapters.postgres.reader import PgReader
from domain.clock import Clock
from domain.statements import load_sql
from runtime.live.channel import CHUNK_BYTES, Channel
from runtime.live.feed import Feed
from runtime.live.frames import snapshot_frame
from runtime.live.kinds import KINDS

_SQL: Final = load_sql("runtime.live", "live.sql")
_IN_MEMORY_BYTES: Final = 1024 * 1024
_FRESH_FRAMES: Final = 64
"""A snapshot with more changes behind it is taken anew."""
_AT_ONCE: Final = 2


class Snapshot:
    """The frames of a snapshot at `position`. Its file is closed when nobody has it any more: neither a channel nor a subscriber that is being shown it."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._parts: list[bytes] = []
        self._bytes = 0
        self._file: int | None = None

    async def add(self, frame: bytes) -> None:
        """Keep one more frame."""
        self._parts.append(frame)
        self._bytes += len(frame)
        if self._file is None and self._bytes > _IN_MEMORY_BYTES:
            self._file = await anyio.to_thread.run_sync(_open_unnamed)
            weakref.finalize(self, os.close, self._file)
        if self._file is not None:
            parts, self._parts = self._parts, []
            await anyio.to_thread.run_sync(_write, self._file, b"".join(parts))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The frames' bytes, in pieces; for any number of readers at once."""
        for part in self._parts:
            yield part
        offset = 0
        while self._file is not None and (data := await anyio.to_thread.run_sync(os.pread, self._file, CHUNK_BYTES, offset)):
            yield data
            offset += len(data)


def _open_unnamed() -> int:
    """A temporary file without a name: it goes with its descriptor, however the process ends."""
    number, path = tempfile.mkstemp(prefix="picloud-snapshot-")
    Path(path).unlink()
    return number


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


class Snapshots:
    """Takes snapshots, a few at a time."""

    def __init__(self, reader: PgReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._turns = anyio.Semaphore(_AT_ONCE)

    async def of(self, feed: Feed, channel: Channel) -> Snapshot:
        """A snapshot from which the channel's window goes on."""
        async with channel.snapshot_lock:
            kept = channel.snapshot
            if kept is None or kept.position < channel.floor or channel.frames_after(kept.position) > _FRESH_FRAMES:
                kept = channel.snapshot = await self._take(feed, channel)
            return kept

    async def _take(self, feed: Feed, channel: Channel) -> Snapshot:
        key, kind = channel.key, KINDS[channel.key.kind]
        async with self._turns, self._reader.snapshot() as reader:
            rows = await reader.fetch(_SQL["head"], feed.app_id)
            taken = Snapshot(rows[0]["position"] if rows else 0)
            async for items, more in kind.pages(reader, feed.app_id, key.name, key.filter, self._clock()):
                await taken.add(snapshot_frame(taken.position, key.name, items, complete=not more))
        return taken
