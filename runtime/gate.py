"""The gate before script requests: a bounded number in progress, a bounded number waiting, for a bounded time. The others are told to come again."""

from __future__ import annotations

from time import perf_counter

import anyio

from domain.errors import Overloaded
from runtime.metrics import Metrics


class Gate:
    """`slots` at once, `queue` waiting for at most `wait_s`."""

    def __init__(self, slots: int, queue: int, wait_s: float, metrics: Metrics) -> None:
        self._semaphore = anyio.Semaphore(slots, fast_acquire=True)
        self._queue = queue
        self._wait_s = wait_s
        self._metrics = metrics
        self._waiting = 0
        self.in_use = 0

    async def enter(self) -> None:
        """Go inside, to `leave` later. Raises Overloaded when there is no room in time."""
        try:
            self._semaphore.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait()
        self.in_use += 1

    def leave(self) -> None:
        """Make room for the next."""
        self.in_use -= 1
        self._semaphore.release()

    async def _wait(self) -> None:
        if self._waiting >= self._queue:
            self._refuse()
        self._waiting += 1
        began = perf_counter()
        try:
            with anyio.fail_after(self._wait_s):
                await self._semaphore.acquire()
        except TimeoutError:
            self._refuse()
        finally:
            self._waiting -= 1
        self._metrics.gate_waited(perf_counter() - began)

    def _refuse(self) -> None:
        self._metrics.gate_refused()
        raise Overloaded(retry_after_s=1.0)
