"""How the cost of a write and of what it triggers grows: with the length of the log, and with the number of triggers.

A job is a KV write that matches one trigger, whose script is not run (see `no-op runner` in `bench_dispatch`). `append` is the write alone, of 16 producers
side by side; `dispatch` the way from the queued job to its committed outcome. Logs of different lengths are in databases of their own, so that their tables
and indexes are as large as they say. Of several triggers all but one listen to other collections, half of them by prefix.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec
import psutil

from benchmarks.bench_dispatch import Contender
from benchmarks.common import Table, arguments, open_database, open_server, report
from benchmarks.load import Found, cpu, in_turns, postmaster_of, run, share, spread, values
from benchmarks.queues import open_picloud

_COLUMNS = ["", "append/s", "CPU ms", "cost", "dispatch/s", "CPU ms", "cost"]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs a round, events that are there before, and triggers."""

    jobs: int = 2000
    events: tuple[int, ...] = (1_000, 10_000, 100_000)
    triggers: tuple[int, ...] = (1, 100, 1_000)


@asynccontextmanager
async def prepared(server: str, events: int, triggers: int) -> AsyncIterator[Contender]:
    """A database with so many events and triggers; its jobs are checked when the context ends well."""
    contender = Contender()
    others = [f"other{number}{'*' if number % 2 else ''}" for number in range(1, triggers)]
    async with (
        open_database(server) as dsn,
        open_picloud(dsn, contender.started, contender.finished, real_sandbox=False, other_triggers=others, events_before=events) as queue,
    ):
        contender.queue = queue
        yield contender
        await contender.check()


async def measure_one(contender: Contender, jobs: int, postmaster: psutil.Process) -> dict[str, float]:
    """Append with nobody there to handle, then handle."""
    appended, begun = cpu(psutil.Process(), postmaster), time.perf_counter()
    await share(contender.give(jobs), contender.queue.enqueue)
    append_rate = jobs / (time.perf_counter() - begun)
    handled, begun = cpu(psutil.Process(), postmaster), time.perf_counter()
    async with contender.queue.consume():
        await contender.all_done()
        dispatch_rate = jobs / (time.perf_counter() - begun)
        done = cpu(psutil.Process(), postmaster)
    return {
        "append/s": append_rate,
        "append cpu": handled.since(appended).each_ms(jobs)["cpu"],
        "dispatch/s": dispatch_rate,
        "dispatch cpu": done.since(handled).each_ms(jobs)["cpu"],
    }


async def measure(server: str, rounds: int, size: Size) -> list[Table]:
    by_events = {f"{count:,} events": (count, 1) for count in size.events}
    by_triggers = {f"{count:,} trigger{'s' if count > 1 else ''}": (size.events[0], count) for count in size.triggers}
    return [
        await _measured("triggers: growth with the log; cost of one job against the first line", server, rounds, size, by_events),
        await _measured("triggers: growth with the number of triggers; cost of one job against the first line", server, rounds, size, by_triggers),
    ]


async def _measured(title: str, server: str, rounds: int, size: Size, cells: dict[str, tuple[int, int]]) -> Table:
    postmaster = postmaster_of(server)
    async with AsyncExitStack() as stack:
        opened = {name: await stack.enter_async_context(prepared(server, events, triggers)) for name, (events, triggers) in cells.items()}
        found = await in_turns(rounds, {name: partial(measure_one, one, size.jobs, postmaster) for name, one in opened.items()})
    return Table(title, _COLUMNS, _rows(found), values(found))


def _rows(found: Found) -> list[list[str]]:
    first = next(iter(found.values()))
    rows = []
    for name, series in found.items():
        row = [name]
        for part in ("append", "dispatch"):
            cost = first[f"{part}/s"].over(series[f"{part}/s"])
            row += [str(series[f"{part}/s"]), spread(series[f"{part} cpu"]), f"{cost:.2f}"]
        rows.append(row)
    return rows


def main() -> None:
    asked = arguments(__doc__ or "", million="also measure in a log of a million events")
    size = Size(events=(*Size().events, 1_000_000)) if asked.million else Size()
    with open_server() as server:
        report("triggers", run(measure, server, asked.rounds, size), asked.json)


if __name__ == "__main__":
    main()
