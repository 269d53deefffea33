"""Blocking steps in a small pool of threads, awaited on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import anyio

from adapters.sandbox.execution import Execution

T = TypeVar("T")


class _Work(Generic[T]):
    """A step on its way through a thread. Made and ended on the event loop; whether the thread or a cancellation has it is decided by `claim`."""

    def __init__(self, step: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._step = step
        self._unclaimed = [True]
        self.result: asyncio.Future[T] = self._loop.create_future()
        self.ended = False
        self.has_ended: asyncio.Event | None = None

    def claim(self) -> bool:
        """True for the first who asks. A list's pop is atomic."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def run(self) -> None:
        """In a thread: run the step and tell the loop."""
        try:
            value = self._step()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            self._loop.call_soon_threadsafe(self._end, None, error)
        else:
            self._loop.call_soon_threadsafe(self._end, value, None)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.ended = True
        if self.has_ended is not None:
            self.has_ended.set()
        elif self.result.cancelled():  # whoever awaited it is about to learn that
            return
        elif error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)

    async def wait(self) -> None:
        """Wait for the end of a step whose result nobody awaits any more."""
        if not self.ended:
            self.has_ended = asyncio.Event()
            await self.has_ended.wait()


class Threads:
    """As many steps at once as there are threads; the others wait, first come first served.

    A step costs one hand-over to a thread and one back. (An executor's futures, wrapped and shielded, cost three times as much of the loop's time.)
    """

    def __init__(self, count: int, name: str) -> None:
        self._works: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        while (work := self._works.get()) is not None:
            if work.claim():
                work.run()
            del work  # an idle thread keeps no run alive

    async def run(self, step: Callable[[], T], *, on_cancel: Callable[[], None] | None = None) -> T:
        """Run `step`. When cancelled, a step that has not begun is dropped; one that has is told by `on_cancel` and waited for."""
        work = _Work(step)
        self._works.put(work)
        try:
            return await work.result
        except asyncio.CancelledError:
            if not work.ended and not work.claim():
                if on_cancel is not None:
                    on_cancel()
                with anyio.CancelScope(shield=True):
                    await work.wait()
            raise

    def close(self) -> None:
        """End the threads. No step may be under way."""
        for _ in self._threads:
            self._works.put(None)
        for thread in self._threads:
            thread.join()


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
