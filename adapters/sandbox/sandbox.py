"""The sandbox: runs driven from a small pool of threads, host calls awaited on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio
from pydantic_monty import MontyError

from adapters.sandbox.execution import Execution
from adapters.sandbox.settings import SandboxSettings
from adapters.sandbox.workers import Workers
from domain.errors import Unavailable
from domain.sandbox import Call, Diagnostic, Host, Job, RunResult, SandboxStatus, ScriptKind, Source

T = TypeVar("T")

EXIT_PAUSE_S: Final = 0.05
"""Monty's own threads end a little after its pools are closed; leaving at once aborts the process now and then."""

_INTO_THE_SCRIPT: Final = frozenset({ValueError, KeyError, TypeError, PermissionError, RuntimeError})


class MontySandbox:
    """Implements `domain.sandbox.Sandbox`. Made by `open_sandbox`."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="sandbox")
        self._permits = anyio.Semaphore(settings.in_flight, fast_acquire=True)
        self._workers = Workers(settings, None)

    async def run(self, job: Job, host: Host) -> RunResult:
        """See `Sandbox.run`."""
        async with self._permits:
            worker = self._workers.lease(job.app_id)
            execution = Execution(job)
            try:
                step = await self._in_thread(execution, lambda: execution.start(worker))
                while isinstance(step, Call):
                    try:
                        answer = await host.call(step)
                    except Exception as error:
                        if type(error) not in _INTO_THE_SCRIPT:
                            raise
                        answer = error
                    step = await self._in_thread(execution, lambda answer=answer: execution.resume(answer))  # type: ignore[misc]
            except MontyError as error:
                raise Unavailable("no sandbox worker could be started", retry_after_s=1.0) from error
            finally:
                with anyio.CancelScope(shield=True):
                    await self._in_thread(execution, execution.close)
                self._workers.release(worker)
            return step

    async def check(self, kind: ScriptKind, script: Source, modules: tuple[Source, ...] = ()) -> list[Diagnostic]:
        """See `Sandbox.check`."""
        raise NotImplementedError

    def status(self) -> SandboxStatus:
        """See `Sandbox.status`."""
        return SandboxStatus(workers=self._workers.count, hardening={})

    async def _in_thread(self, execution: Execution, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, step)

    async def close(self) -> None:
        """End all workers. No run may be under way."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._workers.close)
        self._threads.shutdown()
        await anyio.sleep(EXIT_PAUSE_S)


@asynccontextmanager
async def open_sandbox(settings: SandboxSettings | None = None) -> AsyncIterator[MontySandbox]:
    """A sandbox for the time of the context."""
    sandbox = MontySandbox(settings or SandboxSettings())
    try:
        yield sandbox
    finally:
        with anyio.CancelScope(shield=True):
            await sandbox.close()
