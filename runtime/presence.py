"""This process among the others: it registers, beats, and leaves. Who stops beating has its claims taken back."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import anyio
import psutil
import structlog

from domain.errors import Unavailable
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("runtime", "presence.sql")

log = structlog.get_logger(__name__)


@asynccontextmanager
async def present(reader: Reader, worker_id: UUID, roles: Sequence[str], beat_s: float) -> AsyncIterator[None]:
    """Be registered and beat while the context lasts."""
    await _bury_dead_neighbours(reader, worker_id)
    await _register(reader, worker_id, roles)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_beat, reader, worker_id, roles, beat_s)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await _leave(reader, worker_id)


def machine() -> str:
    """This host as long as it is up, and its process namespace: where a pid means one process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if boot.exists() and namespace.exists():
        return f"{socket.gethostname()}/{boot.read_text().strip()}/{namespace.stat().st_ino}"
    return f"{socket.gethostname()}/{int(psutil.boot_time())}"


async def bury(reader: Reader, dead_after_s: float) -> None:
    """Forget workers that are dead and have nothing claimed any more."""
    await reader.fetch(_SQL["bury"], dead_after_s * 10)


async def _register(reader: Reader, worker_id: UUID, roles: Sequence[str]) -> None:
    await reader.fetch(_SQL["register"], worker_id, machine(), os.getpid(), list(roles))


async def _beat(reader: Reader, worker_id: UUID, roles: Sequence[str], beat_s: float) -> None:
    while True:
        await anyio.sleep(beat_s)
        try:
            if not await reader.fetch(_SQL["beat"], worker_id):
                # Taken for dead while the machine slept or the database was away: come back under the same id; claims made meanwhile were taken back
                # and are fenced off.
                await _register(reader, worker_id, roles)
        except Unavailable as error:
            log.warning("beat_failed", error=error.detail)
        except Exception:  # whatever it is, the next beat may pass
            log.exception("beat_failed")


async def _leave(reader: Reader, worker_id: UUID) -> None:
    try:
        await reader.fetch(_SQL["leave"], worker_id)
    except Exception as error:  # noqa: BLE001  # it will be taken for dead
        log.warning("leave_failed", error=str(error))


def _runs(pid: int) -> bool:
    """Whether a process of this machine still runs; one that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _bury_dead_neighbours(reader: Reader, worker_id: UUID) -> None:
    """A worker of this very machine whose process is gone is dead now; nobody need wait for its silence to grow old."""
    for row in await reader.fetch(_SQL["neighbours"], machine(), worker_id):
        if not _runs(row["pid"]):
            await reader.fetch(_SQL["leave"], row["id"])
