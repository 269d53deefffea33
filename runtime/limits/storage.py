"""How much apps store: the entries, documents and files that are there now. The log and earlier versions of files are not counted.

It is a sum over all of an app's rows, asked for only where a quota is set, and remembered: while the app's log has not moved it is still right, and after that
it is good for a while, the longer the longer it took. Meanwhile what this process has let be stored is added.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from time import perf_counter
from typing import Final
from uuid import UUID

import anyio
import msgspec

from domain.clock import Clock
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("runtime.limits", "storage.sql")
_GOOD_FOR_S: Final = 10.0
_AT_MOST_OF_TIME: Final = 0.01
_APPS_KEPT: Final = 1024

Head = Callable[[UUID], Awaitable[int]]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by service, as they were at a time."""

    kv: int
    docs: int
    files: int
    measured_at: datetime

    @property
    def total(self) -> int:
        """All of them."""
        return self.kv + self.docs + self.files


class _Measured(msgspec.Struct):
    """A sum, where the log stood then, until when it is good enough to accept by, from when on it may be made again, and what was accepted since."""

    stored: Stored
    position: int
    good_until: datetime
    again_at: datetime
    added: int = 0

    def has_room(self, size: int, limit: int) -> bool:
        return self.stored.total + self.added + size <= limit


class Storage:
    """What this process knows of apps' storage."""

    def __init__(self, reader: Reader, head: Head, clock: Clock) -> None:
        self._reader = reader
        self._head = head
        self._clock = clock
        self._known: dict[UUID, _Measured] = {}
        self._measuring: dict[UUID, anyio.Lock] = {}

    async def measure(self, app_id: UUID) -> Stored:
        """What an app stores, for people: not counted again before it is cheap to do so."""
        known = self._known.get(app_id)
        if known is None or (self._clock() >= known.again_at and await self._is_stale(app_id, known)):
            known = await self._measured(app_id, known)
        return known.stored

    async def has_room(self, app_id: UUID, size: int, limit: int) -> bool:
        """Whether so many bytes more may be stored; counted as stored if so. Nobody is refused by a sum that could be made again."""
        known = self._known.get(app_id)
        if known is None or (self._clock() >= known.good_until and await self._is_stale(app_id, known)):
            known = await self._measured(app_id, known)
        if not known.has_room(size, limit) and self._clock() >= known.again_at and await self._is_stale(app_id, known):
            known = await self._measured(app_id, known)
        if not known.has_room(size, limit):
            return False
        known.added += size
        return True

    async def _is_stale(self, app_id: UUID, known: _Measured) -> bool:
        """Whether the log has moved since, or what was accepted since may not have come to be."""
        return known.added > 0 or await self._head(app_id) != known.position

    async def _measured(self, app_id: UUID, before: _Measured | None) -> _Measured:
        """A sum that is newer than `before`: of those who want one at the same time one makes it, and the others wait."""
        lock = self._measuring.setdefault(app_id, anyio.Lock())
        async with lock:
            known = self._known.get(app_id)
            measured = known if known is not None and known is not before else await self._measure(app_id)
        if not lock.statistics().tasks_waiting:
            self._measuring.pop(app_id, None)
        return measured

    async def _measure(self, app_id: UUID) -> _Measured:
        now, began = self._clock(), perf_counter()
        position = await self._head(app_id)
        row = (await self._reader.fetch(_SQL["stored"], app_id))[0]
        stored = Stored(kv=row["kv"], docs=row["docs"], files=row["files"], measured_at=now)
        pause_s = (perf_counter() - began) / _AT_MOST_OF_TIME
        if len(self._known) >= _APPS_KEPT:
            self._known.clear()
        measured = _Measured(stored, position, now + timedelta(seconds=max(_GOOD_FOR_S, pause_s)), now + timedelta(seconds=pause_s))
        self._known[app_id] = measured
        return measured
