"""The sandbox: runs driven from threads, as many as there may be runs, so that none waits behind another; host calls awaited on the event loop."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from pydantic_monty import Monty, MontyError

from adapters.sandbox.checker import check_source
from adapters.sandbox.execution import OUT_OF_TIME, Execution, raised_into_script
from adapters.sandbox.launcher import MEASURES, Launchers, prepare
from adapters.sandbox.settings import SandboxSettings
from adapters.sandbox.threads import Threads, Watchdog
from adapters.sandbox.workers import Worker, Workers
from domain.errors import Unavailable
from domain.sandbox import Call, Diagnostic, Host, Job, RunResult, SandboxStatus, ScriptKind, Source

EXIT_PAUSE_S: Final = 0.05
"""Monty's own threads end a little after its pools are closed; leaving at once aborts the process now and then."""


class MontySandbox:
    """Implements `domain.sandbox.Sandbox`. Made by `open_sandbox`."""

    def __init__(self, settings: SandboxSettings, launchers: Launchers) -> None:
        self._settings = settings
        self._launchers = launchers
        self._threads = Threads(settings.in_flight, "sandbox")
        self._check_thread = Threads(1, "sandbox-check")
        self._checking = anyio.Lock()
        self._permits = anyio.Semaphore(settings.in_flight, fast_acquire=True)
        self._workers = Workers(settings, launchers.run)

    async def run(self, job: Job, host: Host) -> RunResult:
        """See `Sandbox.run`."""
        execution = Execution(job, host.answer_now)
        seat = _Seat(self._permits, self._workers, job)
        await seat.take()
        try:
            step = await self._step(execution, lambda: execution.start(seat.worker))
            while isinstance(step, Call):
                step = await self._serve(step, execution, seat, host)
        except MontyError as error:
            raise Unavailable("no sandbox worker could be started", retry_after_s=1.0) from error
        finally:
            if execution.is_open:
                with anyio.CancelScope(shield=True):
                    await self._threads.run(execution.close)
            seat.leave()
        return step

    async def _serve(self, call: Call, execution: Execution, seat: _Seat, host: Host) -> Call | RunResult:
        """Answer one host call and go on. A slow one gives the worker back while it waits."""
        state = await self._threads.run(execution.park) if host.is_slow(call.name) else None
        if isinstance(state, RunResult):
            return state
        if state is None:
            answer = await _answer(call, execution, host)
            return await self._step(execution, lambda: execution.resume(answer))
        seat.leave()
        async with host.parked():
            answer = await _answer(call, execution, host)
        await seat.take()
        return await self._step(execution, lambda: execution.unpark(seat.worker, state, answer))

    async def _step(self, execution: Execution, step: Callable[[], Call | RunResult]) -> Call | RunResult:
        """Run one step in a thread."""
        watchdog = Watchdog(execution, self._settings.kill_grace_s) if execution.waited_s else None
        try:
            return await self._threads.run(step, on_cancel=execution.kill)
        finally:
            if watchdog is not None:
                watchdog.cancel()

    async def check(self, kind: ScriptKind, script: Source, modules: tuple[Source, ...] = ()) -> list[Diagnostic]:
        """See `Sandbox.check`. One check at a time; raises Unavailable when too many are waiting."""
        try:
            with anyio.fail_after(self._settings.check_wait_s):
                await self._checking.acquire()
        except TimeoutError:
            raise Unavailable("too many checks are waiting", retry_after_s=5.0) from None
        try:
            return await self._check_thread.run(lambda: check_source(kind, script, modules, self._check_pool))
        except (MontyError, OSError, RuntimeError) as error:
            raise Unavailable("no process for the check could be started", retry_after_s=1.0) from error
        finally:
            self._checking.release()

    def _check_pool(self) -> Monty:
        return Monty(binary_path=self._launchers.check, max_processes=1, request_timeout=self._settings.check_timeout_s)

    def status(self) -> SandboxStatus:
        """See `Sandbox.status`."""
        return SandboxStatus(workers=self._workers.count, hardening=dict(self._launchers.hardening))

    async def close(self) -> None:
        """End all workers. No run may be under way."""
        await self._threads.run(self._workers.close)
        self._threads.close()
        self._check_thread.close()
        await anyio.sleep(EXIT_PAUSE_S)


async def _answer(call: Call, execution: Execution, host: Host) -> Any:
    """What the host says: a value, an exception to raise into the script, or `OUT_OF_TIME`."""
    began = time.perf_counter()
    try:
        with anyio.move_on_after(max(execution.remaining_s, 0)):
            return await host.call(call)
    except Exception as error:  # noqa: BLE001  # answered or raised again
        return raised_into_script(error)
    finally:
        execution.waited_s += time.perf_counter() - began
    return OUT_OF_TIME


class _Seat:
    """A run's permit and worker, taken and left together."""

    def __init__(self, permits: anyio.Semaphore, workers: Workers, job: Job) -> None:
        self._permits = permits
        self._workers = workers
        self._app_id = job.app_id
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        """The worker of a taken seat."""
        assert self._worker is not None
        return self._worker

    async def take(self) -> None:
        """Wait, first come first served, until a worker may be used."""
        await self._permits.acquire()
        self._worker = self._workers.lease(self._app_id)

    def leave(self) -> None:
        """Give worker and permit back. Leaving twice is once."""
        if self._worker is not None:
            self._workers.release(self._worker)
            self._worker = None
            self._permits.release()


@asynccontextmanager
async def open_sandbox(settings: SandboxSettings | None = None) -> AsyncIterator[MontySandbox]:
    """A sandbox for the time of the context."""
    chosen = settings or SandboxSettings()
    _skip_telemetry_lookups()
    with tempfile.TemporaryDirectory(prefix="picloud-sandbox-") as folder:
        sandbox = MontySandbox(chosen, await _launchers(chosen, Path(folder)))
        try:
            yield sandbox
        finally:
            with anyio.CancelScope(shield=True):
                await sandbox.close()


async def _launchers(settings: SandboxSettings, folder: Path) -> Launchers:
    if not settings.harden:
        return Launchers(None, None, dict.fromkeys(MEASURES, False))
    return await anyio.to_thread.run_sync(lambda: prepare(folder, run_bytes=settings.run_address_space_bytes, check_bytes=settings.check_address_space_bytes))


def _skip_telemetry_lookups() -> None:
    """Monty imports `opentelemetry` at every feed. Where it is not installed, searching the path takes as long as a run: remember that it is not there."""
    if "opentelemetry" not in sys.modules and importlib.util.find_spec("opentelemetry") is None:
        sys.modules["opentelemetry"] = None  # type: ignore[assignment]
