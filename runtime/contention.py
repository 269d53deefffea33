"""Queues for hot streams.

An execution that has lost to another one waits, first come first served within the process, for the streams that it lost on, so that a hot key serialises
instead of thrashing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import anyio


class HotStreams:
    """A fair lock for each stream that somebody waits for."""

    def __init__(self) -> None:
        self._locks: dict[tuple[UUID, str], anyio.Lock] = {}
        self._users: dict[tuple[UUID, str], int] = {}

    @asynccontextmanager
    async def hold(self, app_id: UUID, streams: Iterable[str]) -> AsyncIterator[None]:
        """Hold the queues of these streams, taken in one order everywhere so that no two holders wait for each other."""
        async with AsyncExitStack() as stack:
            for stream in sorted(set(streams)):
                await stack.enter_async_context(self._hold_one((app_id, stream)))
            yield

    @asynccontextmanager
    async def _hold_one(self, key: tuple[UUID, str]) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, anyio.Lock())
        self._users[key] = self._users.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
