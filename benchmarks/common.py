"""What the benchmarks share: a server of their own, taking turns, medians, tables and JSON."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import msgspec
import psutil

from adapters.postgres.embedded import open_embedded
from runtime.database import prepare_database

_PACKAGES = ("asyncpg", "psycopg", "uvloop", "msgspec", "anyio", "eventsourcing", "pgqueuer", "procrastinate", "litestar", "uvicorn", "pydantic-monty")


class Series(msgspec.Struct, frozen=True):
    """Samples of one measurement, one a round."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def over(self, other: Series) -> float:
        """The median of the ratios of samples taken in the same round, which drift together."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.samples, other.samples, strict=True))

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({min(self.samples):,.0f}-{max(self.samples):,.0f})"


class Table(msgspec.Struct, frozen=True):
    """A table as printed; `values` holds the numbers behind it by name."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    values: dict[str, Any]

    def print(self) -> None:
        widths = [max(len(row[index]) for row in (self.columns, *self.rows)) for index in range(len(self.columns))]
        print(f"\n{self.title}")
        for row in (self.columns, *self.rows):
            print("  " + "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))))


def in_turns(rounds: int, measurements: Mapping[str, Callable[[], float]]) -> dict[str, Series]:
    """Take every measurement once a round, in order, for so many rounds."""
    samples: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            samples[name].append(measure())
    return {name: Series(found) for name, found in samples.items()}


@contextmanager
def open_server() -> Iterator[str]:
    """A fresh embedded server with the production settings; its DSN."""
    with tempfile.TemporaryDirectory(prefix="picloud-bench-") as directory, open_embedded(Path(directory)) as dsn:
        yield dsn


@asynccontextmanager
async def open_database(server_dsn: str) -> AsyncIterator[str]:
    """A database of its own with the whole schema; its DSN."""
    name = f"bench_{uuid4().hex}"
    await execute(server_dsn, f"CREATE DATABASE {name}")
    try:
        dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
        await prepare_database(dsn)
        yield dsn
    finally:
        await execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def execute(dsn: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_at_the_end": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


def arguments(description: str, **flags: str) -> argparse.Namespace:
    """Parse `--json FILE`, `--rounds N` and these flags (name: help)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="how often each measurement takes its turn (%(default)s)")
    for name, text in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
    return parser.parse_args()


def report(name: str, tables: Sequence[Table], file: Path | None) -> None:
    """Print the tables; write them with the machine and its versions to `file`."""
    for table in tables:
        table.print()
    if file is not None:
        found = {"benchmark": name, "machine": machine(), "tables": {table.title: table.values for table in tables}}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
