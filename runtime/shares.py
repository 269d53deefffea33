"""Seats in the sandbox, given to apps in turn.

The sandbox itself takes runs first come first served, so that one app with many slow scripts could fill its queue for minutes. Here whoever waits is served
by app: a free seat goes to the waiting app that has the fewest, and among those to the one that was served longest ago.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import anyio


class Shares:
    """`seats` in all."""

    def __init__(self, seats: int) -> None:
        self._free = seats
        self._taken: Counter[UUID] = Counter()
        self._waiting: OrderedDict[UUID, deque[anyio.Event]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for a seat."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def seat(self, app_id: UUID) -> AsyncIterator[None]:
        """Have a seat for an app."""
        await self._take(app_id)
        try:
            yield
        finally:
            self._leave(app_id)

    async def _take(self, app_id: UUID) -> None:
        if self._free:
            self._grant(app_id)
            return
        turn = anyio.Event()
        self._waiting.setdefault(app_id, deque()).append(turn)
        try:
            await turn.wait()
        except BaseException:  # cancelled: a seat that was granted at the same instant is given on
            if turn.is_set():
                self._leave(app_id)
            else:
                self._give_up(app_id, turn)
            raise

    def _leave(self, app_id: UUID) -> None:
        self._free += 1
        self._taken[app_id] -= 1
        if not self._taken[app_id]:
            del self._taken[app_id]
        if self._waiting:
            # The order of `_waiting` is that of the last service, and `min` takes the first of equals.
            following = min(self._waiting, key=lambda app: self._taken[app])
            turn = self._waiting[following].popleft()
            self._waiting.move_to_end(following)
            if not self._waiting[following]:
                del self._waiting[following]
            self._grant(following)
            turn.set()

    def _grant(self, app_id: UUID) -> None:
        self._free -= 1
        self._taken[app_id] += 1

    def _give_up(self, app_id: UUID, turn: anyio.Event) -> None:
        turns = self._waiting[app_id]
        turns.remove(turn)
        if not turns:
            del self._waiting[app_id]
