"""How fast queued work is dispatched, against PgQueuer and Procrastinate.

Throughput: 16 producers enqueue while handlers run; from the first enqueue to the last job done. Idle latency: one job at a time, from the moment that its
enqueue is durable to the start of its handler. Drain: handlers start on a full queue. Handlers do nothing, and every job must have run exactly once.

Running a script is not the others' job. So PiCloud comes twice: `no-op runner` has everything but the sandbox, whose place is taken by one that returns at
once; `sandbox` runs a script that does nothing. Both append the job's event and its outcome to the log, which the others do not have.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
import msgspec
import psutil

from benchmarks.common import Series, Table, arguments, open_database, open_server, report
from benchmarks.load import CPU_PARTS, Found, cpu, in_turns, percentile, postmaster_of, run, share, spread, values
from benchmarks.queues import PICLOUD, OpenQueue, Queue

_SLOWER = {"PiCloud, sandbox": 4, "Procrastinate": 10}
_RATES = ["", "jobs/s", "ratio", "CPU ms a job", "process", "workers", "PostgreSQL"]
_WAITS = ["", "start p50", "ratio", "start p99", "enqueue p50", "start / enqueue"]
_WITHIN_S = 300.0
_IDLE_S = 0.002


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs a round: of producers side by side, one at a time, queued beforehand. Slower ones get less, see `_SLOWER`."""

    throughput: int = 1500
    idle: int = 100
    drain: int = 10_000


class Contender:
    """A queue, the jobs that it was given, and when they were begun."""

    def __init__(self) -> None:
        self._begun: dict[int, float] = {}
        self._runs: Counter[int] = Counter()
        self._done = 0
        self._given = 0
        self._moved = anyio.Event()
        self.queue: Queue

    def started(self, number: int) -> None:
        self._begun.setdefault(number, time.perf_counter())
        self._runs[number] += 1
        self._moved.set()

    def finished(self) -> None:
        self._done += 1
        self._moved.set()

    def give(self, count: int) -> range:
        """Numbers of new jobs."""
        self._given += count
        return range(self._given - count, self._given)

    async def all_done(self) -> None:
        await self._until(lambda: self._done >= self._given)

    async def begun_at(self, number: int) -> float:
        await self._until(lambda: number in self._begun)
        return self._begun[number]

    async def check(self) -> None:
        """Exactly once: each job was begun once, and the database says the same."""
        assert set(self._runs) == set(range(self._given))
        assert set(self._runs.values()) == {1}
        assert self._done == self._given
        assert await self.queue.left() == 0
        await self.queue.check(self._given)

    async def _until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(_WITHIN_S):
            while not holds():
                self._moved = anyio.Event()
                await self._moved.wait()


async def throughput(contender: Contender, count: int, postmaster: psutil.Process) -> dict[str, float]:
    async with contender.queue.consume():
        await _one(contender)
        before, begun = cpu(psutil.Process(), postmaster), time.perf_counter()
        await share(contender.give(count), contender.queue.enqueue)
        await contender.all_done()
        rate = count / (time.perf_counter() - begun)
        return {"jobs/s": rate, **cpu(psutil.Process(), postmaster).since(before).each_ms(count)}


async def idle(contender: Contender, count: int) -> dict[str, float]:
    """`enqueue` is how long it took to make the job durable, `start` the time from then to the handler."""
    enqueued, waited = [], []
    async with contender.queue.consume():
        await _one(contender)
        for number in contender.give(count):
            await anyio.sleep(_IDLE_S)
            begun = time.perf_counter()
            await contender.queue.enqueue(number)
            durable = time.perf_counter()
            enqueued.append((durable - begun) * 1000)
            waited.append((await contender.begun_at(number) - durable) * 1000)
        await contender.all_done()
    return {"enqueue p50": statistics.median(enqueued), "start p50": statistics.median(waited), "start p99": percentile(waited, 99)}


async def drain(contender: Contender, count: int, postmaster: psutil.Process) -> dict[str, float]:
    await contender.queue.enqueue_many(contender.give(count))
    before, begun = cpu(psutil.Process(), postmaster), time.perf_counter()
    async with contender.queue.consume():
        await contender.all_done()
        rate = count / (time.perf_counter() - begun)
        used = cpu(psutil.Process(), postmaster).since(before)
    return {"jobs/s": rate, **used.each_ms(count)}


async def _one(contender: Contender) -> None:
    """A first job, so that handlers are known to run and connections to be open."""
    for number in contender.give(1):
        await contender.queue.enqueue(number)
    await contender.all_done()


@asynccontextmanager
async def contenders(server: str, queues: Mapping[str, OpenQueue]) -> AsyncIterator[dict[str, Contender]]:
    """Each queue in a database of its own; checked when the context ends well."""
    async with AsyncExitStack() as stack:
        opened = {}
        for name, open_queue in queues.items():
            dsn = await stack.enter_async_context(open_database(server))
            opened[name] = contender = Contender()
            contender.queue = await stack.enter_async_context(open_queue(dsn, contender.started, contender.finished))
        yield opened
        for contender in opened.values():
            await contender.check()


async def measure(server: str, rounds: int, size: Size, queues: Mapping[str, OpenQueue]) -> list[Table]:
    postmaster = postmaster_of(server)
    async with contenders(server, queues) as opened:
        through = await in_turns(rounds, {name: partial(throughput, one, _share_of(name, size.throughput), postmaster) for name, one in opened.items()})
        waits = await in_turns(rounds, {name: partial(idle, one, size.idle) for name, one in opened.items()})
        drains = await in_turns(max(1, rounds - 1), {name: partial(drain, one, _share_of(name, size.drain), postmaster) for name, one in opened.items()})
    return [
        Table("dispatch, 16 producers, enqueue to done; ratio to the faster PgQueuer", _RATES, _rates(through), values(through)),
        Table("dispatch, idle, ms from durable to start of handler; ratio to the quicker PgQueuer", _WAITS, _waits(waits), values(waits)),
        Table(f"dispatch, drain of {size.drain:,} queued; ratio to the faster PgQueuer", _RATES, _rates(drains), values(drains)),
    ]


def _share_of(name: str, count: int) -> int:
    """The slow get less to do."""
    return max(1, count // _SLOWER.get(name, 1))


def _rates(found: Found) -> list[list[str]]:
    peer = max(_peers(found, "jobs/s"), key=lambda series: series.median)
    return [
        [name, str(series["jobs/s"]), f"{series['jobs/s'].over(peer):.2f}", *(f"{series[key].median:.2f}" for key in CPU_PARTS)]
        for name, series in found.items()
    ]


def _waits(found: Found) -> list[list[str]]:
    peer = min(_peers(found, "start p50"), key=lambda series: series.median)
    return [
        [
            name,
            spread(series["start p50"]),
            f"{series['start p50'].over(peer):.2f}",
            spread(series["start p99"]),
            spread(series["enqueue p50"]),
            f"{series['start p50'].over(series['enqueue p50']):.2f}",
        ]
        for name, series in found.items()
    ]


def _peers(found: Found, key: str) -> list[Series]:
    """PgQueuer's numbers; without it, all there are."""
    return [series[key] for name, series in found.items() if name.startswith("PgQueuer")] or [series[key] for series in found.values()]


def main() -> None:
    from benchmarks.peers import PEERS  # noqa: PLC0415  # the rest works without what only `make bench` installs

    asked = arguments(__doc__ or "", full="drain 100,000 jobs instead of 10,000")
    size = Size(drain=100_000) if asked.full else Size()
    with open_server() as server:
        report("dispatch", run(measure, server, asked.rounds, size, {**PICLOUD, **PEERS}), asked.json)


if __name__ == "__main__":
    main()
