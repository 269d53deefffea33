"""One execution's seat in the sandbox: taken for each run, and for others while a run waits for the outside world."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import anyio

from domain.errors import Overloaded
from runtime.shares import Shares


class Seat:
    """`idle_s` is how long it was waited for, which is nobody's running time. `queued`: for a run from the outbox, which no caller's patience bounds."""

    def __init__(self, shares: Shares, app_id: UUID, *, queued: bool, patience_s: float) -> None:
        self._shares = shares
        self._app_id = app_id
        self._queued = queued
        self._patience_s = patience_s
        self._is_taken = False
        self.idle_s = 0.0

    async def take(self) -> None:
        """Take it. Raises Overloaded for a caller who has waited, over all runs, as long as the script may run.

        Who has a seat has a worker and a thread, too: there are as many of each, so there is nothing more to wait for.
        """
        deadline = float("inf") if self._queued else anyio.current_time() + self._patience_s - self.idle_s
        with anyio.CancelScope(deadline=deadline) as waiting:
            await self._wait()
        if waiting.cancelled_caught:
            raise Overloaded("no sandbox was free within the script's time limit", retry_after_s=1.0)

    def leave(self) -> None:
        """Leave it. Leaving twice is once."""
        if self._is_taken:
            self._is_taken = False
            self._shares.leave(self._app_id, queued=self._queued)

    @asynccontextmanager
    async def left(self) -> AsyncIterator[None]:
        """It is for others meanwhile. An error in between leaves it to them."""
        self.leave()
        yield
        await self._wait()

    async def _wait(self) -> None:
        if not self._shares.take_now(self._app_id, queued=self._queued):
            asked = time.perf_counter()
            try:
                await self._shares.take(self._app_id, queued=self._queued)
            finally:
                self.idle_s += time.perf_counter() - asked
        self._is_taken = True
