"""Queues for hot streams.

An execution that has lost to another one waits, first come first served within the process, for the streams that it lost on, so that a hot key serialises
instead of thrashing. For that nobody may overtake the queue: a run that reads a stream which others queue for is broken off at that read and joins them, and
a script whose runs keep doing so is queued before it starts.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from uuid import UUID

import anyio
import msgspec

_SCRIPTS_KEPT: Final = 1024
_STREAMS_KEPT: Final = 8
_HOT_FOR_S: Final = 1.0
_LIKELY: Final = 0.7
_WEIGHT: Final = 0.2
"""Of the newest run in a script's share of runs that touch a stream."""


class StreamHot(Exception):  # a signal, not an error: whoever catches it queues and runs again
    """A run is about to read a stream that others queue for."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


class _Heat(msgspec.Struct):
    """A stream that a script has lost on: the share of its latest runs that touched it, and until when (by the monotonic clock) that is believed."""

    share: float
    until: float


class HotStreams:
    """A fair lock for each stream that somebody waits for, and what each script has lost on lately."""

    def __init__(self) -> None:
        self._locks: dict[tuple[UUID, str], anyio.Lock] = {}
        self._users: dict[tuple[UUID, str], int] = {}
        self._scripts: OrderedDict[UUID, dict[str, _Heat]] = OrderedDict()

    @asynccontextmanager
    async def hold(self, app_id: UUID, streams: Iterable[str]) -> AsyncIterator[None]:
        """Hold the queues of these streams, taken in one order everywhere so that no two holders wait for each other."""
        async with AsyncExitStack() as stack:
            for stream in sorted(set(streams)):
                await stack.enter_async_context(self._hold_one((app_id, stream)))
            yield

    def is_hot(self, app_id: UUID, stream: str) -> bool:
        """Whether somebody holds or waits for this stream's queue now."""
        return bool(self._users) and (app_id, stream) in self._users

    def lost(self, script_id: UUID, stream: str) -> None:
        """A run of this script has lost on a stream, or was broken off at it."""
        heats = self._scripts.setdefault(script_id, {})
        heat = heats.setdefault(stream, _Heat(0.0, 0.0))
        heat.share += _WEIGHT * (1 - heat.share)
        heat.until = time.monotonic() + _HOT_FOR_S
        if len(heats) > _STREAMS_KEPT:
            del heats[min(heats, key=lambda name: heats[name].until)]
        self._scripts.move_to_end(script_id)
        if len(self._scripts) > _SCRIPTS_KEPT:
            self._scripts.popitem(last=False)

    def ran(self, app_id: UUID, script_id: UUID, touched: Iterable[str]) -> None:
        """A run of this script was committed, having touched these streams."""
        heats = self._scripts.get(script_id)
        if heats is None:
            return
        now, names = time.monotonic(), set(touched)
        for stream, heat in list(heats.items()):
            heat.share += _WEIGHT * ((stream in names) - heat.share)
            if self._users.get((app_id, stream), 0) > 1:
                heat.until = now + _HOT_FOR_S
            elif heat.until < now:
                del heats[stream]
        if not heats:
            del self._scripts[script_id]

    def likely(self, script_id: UUID) -> set[str]:
        """The streams that nearly every run of this script would have to queue for now."""
        heats = self._scripts.get(script_id)
        if heats is None:
            return set()
        now = time.monotonic()
        return {stream for stream, heat in heats.items() if heat.share >= _LIKELY and heat.until > now}

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
