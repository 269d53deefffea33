"""Worker processes: each belongs to one app at a time, and never to another without having been replaced."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from uuid import UUID

from pydantic_monty import Monty, MontyError

from adapters.sandbox.settings import SandboxSettings
from domain.errors import Unavailable


class Worker:
    """One process of one app. `open` and `close` block and run in the sandbox's threads; a worker is used by one run at a time."""

    def __init__(self, app_id: UUID, settings: SandboxSettings, binary_path: str | None) -> None:
        self.app_id = app_id
        self._settings = settings
        self._binary_path = binary_path
        self._pool: Monty | None = None
        self._previous: Worker | None = None

    def replacing(self, previous: Worker) -> Worker:
        """Close `previous` before this one opens."""
        self._previous = previous
        return self

    def pool(self) -> Monty:
        """The pool of one process behind this worker, started at the first use. Raises Unavailable when it does not start."""
        if self._previous is not None:
            self._previous.close()
            self._previous = None
        if self._pool is None:
            pool = Monty(
                binary_path=self._binary_path,
                min_processes=1,
                max_processes=1,
                max_checkouts_per_worker=self._settings.recycle_after,
                feed_duration_limit_grace=self._settings.kill_grace_s,
                turn_duration_limit_grace=self._settings.kill_grace_s,
            )
            try:
                pool.__enter__()
            except (OSError, RuntimeError, MontyError) as error:
                raise Unavailable("no sandbox worker could be started", retry_after_s=1.0) from error
            self._pool = pool
        return self._pool

    def close(self) -> None:
        """End the process."""
        if self._previous is not None:
            self._previous.close()
            self._previous = None
        if self._pool is not None:
            pool, self._pool = self._pool, None
            with suppress(MontyError):
                pool.__exit__(None, None, None)


class Workers:
    """All workers, idle ones in the order of their last use. Used on the event loop alone."""

    def __init__(self, settings: SandboxSettings, binary_path: str | None) -> None:
        self._settings = settings
        self._binary_path = binary_path
        self._idle: OrderedDict[Worker, None] = OrderedDict()
        self._idle_of: dict[UUID, list[Worker]] = {}
        self.count = 0

    def lease(self, app_id: UUID) -> Worker:
        """A worker of that app: a warm one, else a new one, else a new one in the place of the least recently used.

        The caller keeps leases below `warm_workers`, so there is always one to be had.
        """
        warm = self._idle_of.get(app_id)
        if warm:
            worker = warm.pop()
            del self._idle[worker]
            return worker
        worker = Worker(app_id, self._settings, self._binary_path)
        if self.count < self._settings.warm_workers:
            self.count += 1
            return worker
        oldest, _ = self._idle.popitem(last=False)
        self._forget(oldest)
        return worker.replacing(oldest)

    def release(self, worker: Worker) -> None:
        """Give a worker back."""
        self._idle[worker] = None
        self._idle_of.setdefault(worker.app_id, []).append(worker)

    def _forget(self, worker: Worker) -> None:
        warm = self._idle_of[worker.app_id]
        warm.remove(worker)
        if not warm:
            del self._idle_of[worker.app_id]

    def close(self) -> None:
        """End all idle workers; called when no run is left."""
        for worker in self._idle:
            worker.close()
        self._idle.clear()
        self._idle_of.clear()
        self.count = 0
