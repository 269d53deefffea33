"""What is kept of traffic between requests: rates, the counts of a day, and sums of what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import anyio
import asyncpg
import msgspec
import pytest
from uuid_utils.compat import uuid7

from adapters.postgres.reader import PgReader
from domain.rates import Rate
from runtime.limits.rates import MAX_STREAMS, Rates
from runtime.limits.storage import Storage
from runtime.limits.usage import Usage, Used
from tests.runtime.world import QUICK, eventually, running

pytestmark = pytest.mark.anyio

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
APP, OTHER = UUID(int=0xA), UUID(int=0xB)


class Time:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(dsn, min_size=0, max_size=2) as opened:
        yield opened


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_rate_costs_no_more_memory_than_its_bound() -> None:
    now_s = [0.0]
    rates = Rates(lambda: now_s[0])
    rate = Rate(2, 60.0)
    assert rates.arrive("busy", rate).passes
    assert rates.arrive("busy", rate).passes
    for number in range(3 * MAX_STREAMS):
        rates.arrive(number, rate)
        assert len(rates) <= MAX_STREAMS
    assert not rates.arrive("busy", rate).passes, "who is furthest ahead is remembered"
    now_s[0] = 1000.0
    for number in range(MAX_STREAMS):
        rates.arrive(-number, rate)
    assert len(rates) <= MAX_STREAMS


async def test_a_process_counts_those_that_serve_the_web(dsn: str) -> None:
    behind = msgspec.structs.replace(QUICK, process=msgspec.structs.replace(QUICK.process, roles=("reactor", "scheduler")))
    async with running(dsn), running(dsn, behind), running(dsn) as newest:

        async def counted() -> int:
            return newest.rates.processes

        assert await eventually(counted, lambda processes: processes > 1) == 2


async def test_processes_agree_on_what_was_used(pool: asyncpg.Pool, time: Time) -> None:
    here, there = Usage(PgReader(pool), time), Usage(PgReader(pool), time)
    for usage, requests in ((here, 3), (there, 4)):
        for _ in range(requests):
            usage.request(APP)
        usage.execution(APP)
    here.execution(OTHER)
    assert await here.today(APP) == Used(3, 1), "what is not added up yet counts here"
    await here.flush()
    await there.flush()
    assert await there.today(APP) == Used(7, 2), "an addition is answered with the sum"
    assert await here.today(APP) == Used(3, 1)
    assert await here.today(APP, fresh=True) == Used(7, 2)
    assert await here.today(OTHER) == Used(0, 1)
    there.request(APP)
    await there.flush()
    time.now += timedelta(seconds=6)
    assert await here.today(APP) == Used(8, 2)


async def test_each_day_begins_anew_and_old_ones_are_forgotten(pool: asyncpg.Pool, time: Time) -> None:
    usage = Usage(PgReader(pool), time)
    usage.request(APP)
    await usage.flush()
    time.now += timedelta(hours=12)
    assert await usage.today(APP) == Used()
    usage.request(APP)
    await usage.flush()
    assert await usage.today(APP) == Used(1, 0)
    time.now += timedelta(days=400)
    await usage.retain()
    assert [row["day"] for row in await pool.fetch("SELECT day FROM usage_days")] == [date(2031, 5, 2)]


async def test_what_cannot_be_added_is_added_later(pool: asyncpg.Pool, time: Time) -> None:
    usage = Usage(PgReader(pool), time)
    usage.request(APP)
    await pool.execute("ALTER TABLE usage_days RENAME TO elsewhere")
    await usage.flush()
    usage.request(APP)
    await pool.execute("ALTER TABLE elsewhere RENAME TO usage_days")
    assert await usage.today(APP) == Used(2, 0)
    await usage.flush()
    assert await usage.today(APP, fresh=True) == Used(2, 0)


async def test_a_stop_while_it_is_added_up_loses_nothing(dsn: str, pool: asyncpg.Pool, time: Time) -> None:
    usage = Usage(PgReader(pool), time)
    holder = await asyncpg.connect(dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE usage_days IN SHARE MODE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(usage.run)
            usage.request(APP)
            await eventually(lambda: holder.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'usage_days'::regclass AND NOT granted)"))
            usage.request(APP)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await holder.execute("COMMIT")
    finally:
        await holder.close()
    assert await pool.fetchval("SELECT requests FROM usage_days") == 2


async def test_who_asks_at_the_same_time_waits_for_one_sum(pool: asyncpg.Pool, time: Time) -> None:
    asked = 0

    async def head(_: UUID) -> int:
        nonlocal asked
        asked += 1
        return 1

    storage = Storage(PgReader(pool), head, time)
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await storage.has_room(APP, 10, 100))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    assert (asked, sorted(answers)) == (1, [False] * 10 + [True] * 10)


async def test_storage_is_summed_when_it_matters(pool: asyncpg.Pool, time: Time) -> None:
    position = 1

    async def head(_: UUID) -> int:
        return position

    async def store(size: int) -> None:
        sql = "INSERT INTO kv_entries (app_id, collection, key, value, version, updated_at) VALUES ($1, 'c', $2, $3, 1, now())"
        await pool.execute(sql, APP, str(uuid7()), "x" * size)

    storage = Storage(PgReader(pool), head, time)
    await store(64)
    assert (await storage.measure(APP)).total == 100
    assert await storage.has_room(APP, 400, 1000)
    assert not await storage.has_room(APP, 501, 1000), "what was let pass is counted before it is there"
    await store(864)
    position += 1
    assert await storage.has_room(APP, 500, 1000), "for a while the sum is good enough to let more pass"
    time.now += timedelta(seconds=300)
    assert not await storage.has_room(APP, 1, 1000)
    await pool.execute("DELETE FROM kv_entries")
    position += 1
    time.now += timedelta(seconds=300)
    assert await storage.has_room(APP, 1000, 1000), "nobody is refused by an old sum"
    assert not await storage.has_room(OTHER, 1001, 1000)
    assert await storage.has_room(OTHER, 1000, 1000)
