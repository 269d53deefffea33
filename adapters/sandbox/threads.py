"""Blocking steps in a small pool of threads, awaited on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio

from adapters.sandbox.execution import Execution

T = TypeVar("T")


class Threads:
    """As many steps at once as there are threads; the others wait, first come first served."""

    def __init__(self, count: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, step: Callable[[], T], *, on_cancel: Callable[[], None] | None = None) -> T:
        """Run `step`. When cancelled, a step that has not begun is dropped; one that has is told by `on_cancel` and waited for."""
        work = self._executor.submit(step)
        future = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not work.cancel():
                if on_cancel is not None:
                    on_cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait((future,))
            raise

    def close(self) -> None:
        """End the threads. No step may be under way."""
        self._executor.shutdown()


class Watchdog:
    """Kills the worker of a step that overruns what host calls have left of the run's time. Used on the event loop.

    Monty limits the time of sandbox code alone, and once for the whole run, so it does not know what host calls have taken.
    """

    def __init__(self, execution: Execution, grace_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._execution = execution
        self._grace_s = grace_s
        self._timer = self._loop.call_later(max(execution.remaining_s, 0) + grace_s, self._look)

    def _look(self) -> None:
        """A step that still waits for its thread has used nothing yet: look again."""
        if not self._execution.expire():
            self._timer = self._loop.call_later(self._grace_s, self._look)

    def cancel(self) -> None:
        """The step has ended."""
        self._timer.cancel()
