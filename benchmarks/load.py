"""Load, and what it costs: producers side by side, and the CPU time that a process tree and a PostgreSQL server have used."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import anyio
import msgspec
import psutil
import structlog

from benchmarks.common import Series

PRODUCERS = 16
CPU_PARTS = ("cpu", "cpu process", "cpu workers", "cpu postgres")

Found = dict[str, dict[str, Series]]
"""What measurements in turns have found, by measurement and name of the number."""

T = TypeVar("T")


class Cpu(msgspec.Struct, frozen=True):
    """Seconds of CPU: the process that does the work, its child processes (sandbox workers), and PostgreSQL with all its backends."""

    process: float
    children: float
    postgres: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.process - before.process, self.children - before.children, self.postgres - before.postgres)

    def each_ms(self, count: int) -> dict[str, float]:
        """Milliseconds for one of `count`."""
        parts = {"cpu process": self.process, "cpu workers": self.children, "cpu postgres": self.postgres}
        return {"cpu": sum(parts.values()) / count * 1000, **{name: part / count * 1000 for name, part in parts.items()}}


def cpu(process: psutil.Process, postmaster: psutil.Process | None = None) -> Cpu:
    """CPU used so far. Children that have ended count where they were waited for; PostgreSQL is nobody's child (it leads a session of its own)."""
    own = process.cpu_times()
    not_these = set() if postmaster is None else {postmaster.pid}
    return Cpu(
        own.user + own.system,
        own.children_user + own.children_system + _of_children(process, not_these),
        0.0 if postmaster is None else sum(postmaster.cpu_times()[:4]) + _of_children(postmaster, set()),
    )


def _of_children(parent: psutil.Process, not_these: set[int]) -> float:
    total = 0.0
    for child in parent.children():
        if child.pid in not_these:
            continue
        try:
            total += sum(child.cpu_times()[:4]) + _of_children(child, not_these)
        except psutil.NoSuchProcess:
            continue  # it has ended meanwhile, and its parent has its time
    return total


async def share(numbers: range, work: Callable[[int], Awaitable[None]], producers: int = PRODUCERS) -> None:
    """Do the work for every number, so many at a time."""
    waiting = iter(numbers)

    async def produce() -> None:
        for number in waiting:
            await work(number)

    async with anyio.create_task_group() as tasks:
        for _ in range(producers):
            tasks.start_soon(produce)


async def in_turns(rounds: int, measurements: Mapping[str, Callable[[], Awaitable[dict[str, float]]]]) -> Found:
    """As `common.in_turns` for measurements on one loop that find several numbers at once: what they found by measurement and name."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            gc.collect()
            found[name].append(await measure())
    return {name: {key: Series([sample[key] for sample in samples]) for key in samples[0]} for name, samples in found.items()}


def values(found: Found) -> dict[str, dict[str, dict[str, object]]]:
    """The numbers for the JSON."""
    return {name: {key: {"median": one.median, "samples": one.samples} for key, one in series.items()} for name, series in found.items()}


def spread(series: Series, digits: int = 2) -> str:
    """Median (min-max), as `Series` prints itself but with decimals."""
    return f"{series.median:,.{digits}f} ({min(series.samples):,.{digits}f}-{max(series.samples):,.{digits}f})"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest rank."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * percent / 100))]


def postmaster_of(dsn: str) -> psutil.Process:
    """The server behind a DSN of the embedded PostgreSQL, whose socket lies beside its data."""
    socket_dir = Path(parse_qs(urlsplit(dsn).query)["host"][0])
    return psutil.Process(int((socket_dir / ".s.PGSQL.5432.lock").read_text().splitlines()[0]))


def run(work: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run on the loop that `picloud serve` runs on, and log as little as it does at `warning`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return anyio.run(work, *args, backend_options={"use_uvloop": True})
