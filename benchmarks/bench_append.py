"""How fast units are appended, projected and acknowledged, against the eventsourcing library's PostgreSQL recorder.

The library's recorder stores an event and nothing else; it runs as its users run it, one thread and one pooled connection a client. Ours judges each unit
against the head of its app's log, numbers its events without a gap and brings the read models up to date in the same commit: `kv` is the projection of
entries alone, `all` every projection of the product, with the matching of triggers. `new` units begin a stream each, `known` ones write keys that exist,
with the version they have read.

Then: several processes on one app and on apps of their own, and what an append costs in a long log.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import msgspec
import uvloop
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from uuid_utils.compat import uuid7

from adapters.postgres.connect import open_pool
from adapters.postgres.judging import Project
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from benchmarks.common import Series, Table, arguments, execute, in_turns, open_database, open_server, report
from domain.clock import utc_now
from domain.events import Metadata
from domain.kv import SetKey, entry_stream
from domain.registry import EVENTS, RULES
from domain.units import Change, Read, Unit
from projections.kv import KvEntries
from projections.project import projector
from projections.registry import PROJECTIONS

CLIENTS: Final = (1, 16, 64)
PROCESSES: Final = (1, 2, 4)
SAMPLE_S: Final = 0.7
WARM_UP_S: Final = 0.15
GROWTH: Final = (1_000, 10_000, 100_000)
VALUE: Final = msgspec.Raw(b'"' + b"x" * 198 + b'"')
ONLY_KV: Final = projector([KvEntries()])
ALL: Final = projector(PROJECTIONS)


def stock_rate(dsn: str, clients: int) -> float:
    """Events per second of the library's recorder."""
    with _stock_recorder(dsn, clients) as recorder:
        counts = [0] * clients
        started = threading.Barrier(clients + 1)
        ends = [0.0]

        def client(number: int) -> None:
            started.wait()
            while time.perf_counter() < ends[0]:
                recorder.insert_events([StoredEvent(uuid7(), 1, "kv.KvSet", bytes(VALUE))])
                counts[number] += 1

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        before = recorder.max_notification_id() or 0
        for thread in threads:
            thread.start()
        begun = time.perf_counter()
        ends[0] = begun + SAMPLE_S
        started.wait()
        for thread in threads:
            thread.join()
        rate = sum(counts) / (time.perf_counter() - begun)
        assert (recorder.max_notification_id() or 0) - before == sum(counts)
    return rate


@contextmanager
def _stock_recorder(dsn: str, clients: int) -> Iterator[PostgresApplicationRecorder]:
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    with PostgresDatastore(parts.path[1:], host, "5432", "postgres", "", pool_size=clients, connect_timeout=30) as datastore:
        recorder = PostgresApplicationRecorder(datastore, events_table_name="stored_events")
        recorder.create_table()
        datastore.pool.wait(30)
        yield recorder


def our_rate(dsn: str, clients: int, *, project: Project, known: bool) -> float:
    """Units (of one event each) per second of ours."""
    return uvloop.run(_our_rate(dsn, uuid7(), clients, project, known=known))


@asynccontextmanager
async def _our_log(dsn: str, project: Project) -> AsyncIterator[PgLog]:
    async with open_pool(dsn, 2) as pool, open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=project) as log:
        yield log


async def _our_rate(dsn: str, app: UUID, clients: int, project: Project, *, known: bool) -> float:
    async with _our_log(dsn, project) as log:
        await _run_clients(log, app, clients, WARM_UP_S, known=False)
        before = await log.head(app)
        begun = time.perf_counter()
        count = await _run_clients(log, app, clients, SAMPLE_S, known=known)
        rate = count / (time.perf_counter() - begun)
    await _check(dsn, app, before + count)
    return rate


async def _run_clients(log: PgLog, app: UUID, clients: int, seconds: float, *, known: bool) -> int:
    """Clients in a closed loop, each its next unit when the last is acknowledged; returns how many were."""
    ends = time.perf_counter() + seconds
    run = uuid7().hex

    async def client(number: int) -> int:
        count = 0
        while time.perf_counter() < ends:
            key = f"{run}-{number}" if known else f"{run}-{number}-{count}"
            reads = (Read(entry_stream("bench", key), count),) if known else ()
            await log.append(_unit(app, key, reads))
            count += 1
        return count

    return sum(await asyncio.gather(*map(client, range(clients))))


def _unit(app: UUID, key: str, reads: tuple[Read, ...] = ()) -> Unit:
    change = Change(SetKey(collection="bench", key=key, value=VALUE))
    return Unit(app_id=app, metadata=Metadata(unit_id=uuid7(), actor="user:bench"), now=utc_now(), changes=(change,), reads=reads)


async def _check(dsn: str, app: UUID, count: int) -> None:
    """Every acknowledged unit is there, positions and versions have no gaps, and the entries are the streams' last versions."""
    connection = await asyncpg.connect(dsn)
    found = await connection.fetchrow("SELECT count(*), max(position), count(DISTINCT metadata ->> 'unit_id') FROM events WHERE app_id = $1", app)
    streams = "SELECT max(originator_version) AS version, count(*) AS events FROM events WHERE app_id = $1 GROUP BY originator_id"
    versions = await connection.fetch(f"SELECT version, events, count(*) FROM ({streams}) AS s GROUP BY 1, 2 ORDER BY 1", app)
    entries = await connection.fetch("SELECT version, count(*) FROM kv_entries WHERE app_id = $1 GROUP BY 1 ORDER BY 1", app)
    await connection.close()
    assert found is not None
    assert tuple(found) == (count, count, count), (tuple(found), count)
    assert all(row["version"] == row["events"] for row in versions)
    assert [(row["version"], row["count"]) for row in versions] == [tuple(row) for row in entries]


def measure_append(dsn: str, rounds: int) -> Table:
    """The table of rates and ratios by number of clients."""
    kinds: dict[str, Callable[[str, int], float]] = {
        "stock": stock_rate,
        "kv, new": partial(our_rate, project=ONLY_KV, known=False),
        "kv, known": partial(our_rate, project=ONLY_KV, known=True),
        "all, new": partial(our_rate, project=ALL, known=False),
    }
    found = {clients: in_turns(rounds, {name: partial(measure, dsn, clients) for name, measure in kinds.items()}) for clients in CLIENTS}
    rows = []
    for clients, series in found.items():
        stock = series["stock"]
        rows.append([str(clients), *(f"{one}" if one is stock else f"{one} {one.over(stock):.1f}x" for one in series.values())])
    values = {
        str(clients): {name: {"samples": one.samples, "median": one.median, "ratio": one.over(series["stock"])} for name, one in series.items()}
        for clients, series in found.items()
    }
    return Table("append: units/s, median (min-max) and ratio to stock", ["clients", *kinds], rows, values)


def _process(dsn: str, app: UUID, clients: int, ready: Barrier, counts: multiprocessing.Queue[int]) -> None:
    async def work() -> None:
        async with _our_log(dsn, ONLY_KV) as log:
            await _run_clients(log, app, clients, WARM_UP_S, known=False)
            await asyncio.get_running_loop().run_in_executor(None, ready.wait)
            counts.put(await _run_clients(log, app, clients, SAMPLE_S, known=False))

    uvloop.run(work())


def processes_rate(dsn: str, processes: int, *, apart: bool) -> float:
    """Units per second of several processes together, 64 clients in all, on one app or each on its own."""
    context = multiprocessing.get_context("spawn")
    ready, counts = context.Barrier(processes + 1), context.Queue()
    shared = uuid7()
    apps = [uuid7() if apart else shared for _ in range(processes)]
    workers = [context.Process(target=_process, args=(dsn, app, 64 // processes, ready, counts)) for app in apps]
    for worker in workers:
        worker.start()
    ready.wait()
    begun = time.perf_counter()
    total = sum(counts.get(timeout=30) for _ in workers)
    rate = total / (time.perf_counter() - begun)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for app in set(apps):
        uvloop.run(_check_gapless(dsn, app))
    return rate


async def _check_gapless(dsn: str, app: UUID) -> None:
    await _check(dsn, app, await _head(dsn, app))


async def _head(dsn: str, app: UUID) -> int:
    connection = await asyncpg.connect(dsn)
    position: int = await connection.fetchval("SELECT position FROM log_head WHERE app_id = $1", app)
    await connection.close()
    return position


def measure_processes(dsn: str, rounds: int) -> Table:
    """The table of rates by number of processes."""
    names = {f"{count} on {'own apps' if apart else 'one app'}": (count, apart) for apart in (False, True) for count in PROCESSES if count > 1 or not apart}
    series = in_turns(rounds, {name: partial(processes_rate, dsn, count, apart=apart) for name, (count, apart) in names.items()})
    one = series["1 on one app"]
    rows = [[name, f"{found}", f"{found.over(one):.2f}"] for name, found in series.items()]
    values = {name: {"samples": found.samples, "median": found.median, "ratio": found.over(one)} for name, found in series.items()}
    return Table("processes: units/s with 64 clients in all, ratio to one process", ["processes", "units/s", "ratio"], rows, values)


async def _grow(dsn: str, app: UUID, until: int) -> None:
    """Lengthen a log, quickly: units of 250 events."""
    async with _our_log(dsn, ONLY_KV) as log:
        position = await log.head(app)

        async def fill(first: int) -> None:
            changes = tuple(Change(SetKey(collection="bench", key=f"grown-{number}", value=VALUE)) for number in range(first, min(first + 250, until)))
            await log.append(Unit(app_id=app, metadata=Metadata(unit_id=uuid7()), now=utc_now(), changes=changes))

        for begin in range(position, until, 2000):
            await asyncio.gather(*(fill(first) for first in range(begin, min(begin + 2000, until), 250)))


async def _grown_rate(dsn: str, app: UUID, clients: int) -> float:
    async with _our_log(dsn, ONLY_KV) as log:
        await _run_clients(log, app, clients, WARM_UP_S, known=False)
        begun = time.perf_counter()
        count = await _run_clients(log, app, clients, SAMPLE_S, known=False)
        return count / (time.perf_counter() - begun)


def measure_growth(dsn: str, rounds: int, sizes: tuple[int, ...]) -> Table:
    """The table of what an append costs by length of the log; each length is a log of its own, so that they take turns."""
    apps = {size: uuid7() for size in sizes}
    for size, app in apps.items():
        uvloop.run(_grow(dsn, app, size))
    uvloop.run(execute(dsn, "VACUUM (ANALYZE) events, kv_entries"))
    series = in_turns(rounds, {f"{size:,}": lambda app=app: uvloop.run(_grown_rate(dsn, app, 16)) for size, app in apps.items()})
    shortest: Series = next(iter(series.values()))
    rows = [[name, f"{found}", f"{shortest.over(found):.2f}"] for name, found in series.items()]
    values = {name: {"samples": found.samples, "median": found.median, "cost_ratio": shortest.over(found)} for name, found in series.items()}
    return Table("growth: units/s of 16 clients, and the cost of one against that in the shortest log", ["events before", "units/s", "cost"], rows, values)


def main() -> None:
    asked = arguments(__doc__ or "", million="also measure in a log of a million events")
    with open_server() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        database = open_database(server)
        dsn = runner.run(database.__aenter__())
        try:
            tables = [
                measure_append(dsn, asked.rounds),
                measure_processes(dsn, max(1, asked.rounds - 1)),
                measure_growth(dsn, max(1, asked.rounds - 1), (*GROWTH, 1_000_000) if asked.million else GROWTH),
            ]
        finally:
            runner.run(database.__aexit__(None, None, None))
    report("append", tables, asked.json)


if __name__ == "__main__":
    main()
