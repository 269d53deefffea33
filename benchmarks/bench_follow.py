"""What following costs those who append, and how fast a followed read model is: statistics, the one that handles every event.

`appends alone`, `followed here` (the same process, as with `picloud serve`) and `followed elsewhere` (another process, as with `--workers`) take turns. The
lag is what is still to be applied when the appends stop. `catches up` is the rate at which a log that was never followed is.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Final
from uuid import UUID

import anyio
import asyncpg
import msgspec
import uvloop
from uuid_utils.compat import uuid7

from adapters.postgres.connect import open_pool
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Follower
from benchmarks.common import Series, Table, arguments, open_database, open_server, report
from domain.clock import utc_now
from domain.events import Metadata
from domain.kv import SetKey
from domain.registry import EVENTS, RULES
from domain.units import Change, Unit
from projections.project import projector
from projections.registry import FOLLOWED, PROJECTIONS
from runtime.metrics import Metrics

VALUE: Final = msgspec.Raw(b'"' + b"x" * 198 + b'"')
WARM_UP_S: Final = 0.3
CODEC: Final = StructMapper(EVENTS)
LEADERS: Final = """
SELECT count(*)
FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.classid = 422 AND l.granted AND d.datname = current_database()
"""
BEHIND: Final = """
SELECT coalesce(sum(h.position - coalesce(c.position, 0)), 0)::bigint
FROM log_head h LEFT JOIN projection_checkpoints c ON c.projection = 'statistics' AND c.app_id = h.app_id
"""


class Size(msgspec.Struct, frozen=True):
    """How long a sample is, how many clients append to how many apps, and how long the log is that is caught up with."""

    seconds: float = 1.5
    clients: int = 16
    apps: int = 4
    backlog: int = 20_000


class Sample(msgspec.Struct, frozen=True):
    """Appended events per second, and how many were still to be applied at the end."""

    rate: float
    lag: int


async def measure(server_dsn: str, rounds: int, size: Size) -> list[Table]:
    """Both tables."""
    found: dict[str, list[Sample]] = {"appends alone": [], "followed here": [], "followed elsewhere": []}
    caught_up: list[float] = []
    for _ in range(rounds):
        for name, samples in found.items():
            async with open_database(server_dsn) as dsn:
                samples.append(await _sample(dsn, size, name))
        async with open_database(server_dsn) as dsn:
            caught_up.append(await _catch_up(dsn, size))
    return [_rates(found), _catching_up(caught_up)]


async def _sample(dsn: str, size: Size, name: str) -> Sample:
    elsewhere = _elsewhere(dsn) if name == "followed elsewhere" else nullcontext()
    async with elsewhere, _opened(dsn) as log, _here(dsn, log) if name == "followed here" else nullcontext():
        apps = [uuid7() for _ in range(size.apps)]
        await _append(log, apps, size.clients, until=_for(WARM_UP_S))
        begun = time.perf_counter()
        count = await _append(log, apps, size.clients, until=_for(size.seconds))
        rate = count / (time.perf_counter() - begun)
        return Sample(rate, await _ask(dsn, BEHIND))


def _for(seconds: float) -> Callable[[int], bool]:
    ends = time.perf_counter() + seconds
    return lambda _: time.perf_counter() > ends


async def _catch_up(dsn: str, size: Size) -> float:
    """Events per second."""
    async with _opened(dsn) as log:
        apps = [uuid7() for _ in range(size.apps)]
        await _append(log, apps, size.clients, until=lambda count: count >= size.backlog)
        behind = await _ask(dsn, BEHIND)
    begun = time.perf_counter()
    async with _following(dsn, _follower(dsn).run):
        while await _ask(dsn, BEHIND):  # noqa: ASYNC110  # what another process does tells nobody
            await anyio.sleep(0.01)
    return behind / (time.perf_counter() - begun)


async def _append(log: PgLog, apps: list[UUID], clients: int, *, until: Callable[[int], bool]) -> int:
    """Clients in a closed loop; how many events they had acknowledged."""
    count = 0

    async def client(number: int) -> None:
        nonlocal count
        turn = 0
        while not until(count):
            effect = SetKey(collection="c", key=f"{number}-{turn % 1000}", value=VALUE)
            unit = Unit(app_id=apps[number % len(apps)], metadata=Metadata(unit_id=uuid7()), now=utc_now(), changes=(Change(effect),))
            appended = await log.append(unit)
            count += len(appended)
            turn += 1

    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(client, number)
    return count


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[PgLog]:
    async with open_pool(dsn, 2) as pool, open_log(dsn, pool, rules=RULES, codec=CODEC, project=projector(PROJECTIONS)) as log:
        yield log


def _follower(dsn: str) -> Follower:
    return Follower(dsn, FOLLOWED[0], CODEC, Metrics())


@asynccontextmanager
async def _here(dsn: str, log: PgLog) -> AsyncIterator[None]:
    follower = _follower(dsn)
    log.on_commit(follower.committed)
    async with _following(dsn, follower.run):
        yield


@asynccontextmanager
async def _elsewhere(dsn: str) -> AsyncIterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_run_elsewhere, args=(dsn,))
    process.start()
    try:
        await _until_led(dsn)
        yield
    finally:
        process.kill()
        process.join()


def _run_elsewhere(dsn: str) -> None:
    uvloop.run(_follow_alone(dsn))


async def _follow_alone(dsn: str) -> None:
    async with _opened(dsn) as log:
        follower = _follower(dsn)
        log.wakeups.on_foreign(follower.moved)
        await follower.run()


@asynccontextmanager
async def _following(dsn: str, run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await _until_led(dsn)
        yield
        tasks.cancel_scope.cancel()


async def _until_led(dsn: str) -> None:
    while not await _ask(dsn, LEADERS):  # noqa: ASYNC110  # as above
        await anyio.sleep(0.01)


async def _ask(dsn: str, sql: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


def _rates(found: dict[str, list[Sample]]) -> Table:
    rates = {name: Series([sample.rate for sample in samples]) for name, samples in found.items()}
    lags = {name: Series([float(sample.lag) for sample in samples]) for name, samples in found.items()}
    alone = rates["appends alone"]
    return Table(
        title="events appended per second, by 16 clients to 4 apps",
        columns=["", "events/s", "x alone", "lag at the end"],
        rows=[[name, str(rate), f"{rate.over(alone):.2f}", "-" if name == "appends alone" else str(lags[name])] for name, rate in rates.items()],
        values={name: {"events_per_s": rate.samples, "over_alone": rate.over(alone), "lag_events": lags[name].samples} for name, rate in rates.items()},
    )


def _catching_up(samples: list[float]) -> Table:
    rate = Series(samples)
    return Table(title="a log that was never followed", columns=["", "events/s"], rows=[["catches up", str(rate)]], values={"catches up": rate.samples})


async def main() -> None:
    asked = arguments(__doc__ or "")
    with open_server() as dsn:
        report("follow", await measure(dsn, asked.rounds, Size()), asked.json)


if __name__ == "__main__":
    uvloop.run(main())
