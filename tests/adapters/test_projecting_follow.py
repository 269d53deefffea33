"""A followed projection counts every event once, whoever follows, dies, rebuilds or fails meanwhile."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
import asyncpg
import pytest

from adapters.postgres.log import PgLog
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Follower, ensure_followed, follow, turns
from domain.events import Recorded
from domain.registry import EVENTS
from projections.registry import FOLLOWED
from projections.statistics import Statistics
from runtime.database import rebuild_projections, verify_projections
from runtime.metrics import Metrics
from tests.adapters.log_support import increment, open_test_log, set_key, unit
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

APPS = tuple(UUID(int=number) for number in range(1, 6))
DECODER = StructMapper(EVENTS)
COUNTED = "SELECT coalesce(sum(count), 0)::bigint FROM statistics_totals WHERE kind = 'events'"
APPENDED = "SELECT coalesce(sum(position), 0)::bigint FROM log_head"
CHILD = """
import sys
import anyio
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Follower, follow, turns
from domain.registry import EVENTS
from projections.registry import FOLLOWED
from runtime.metrics import Metrics

turns.MAX_EVENTS = 25
follow._PAUSE_S = 0.02
anyio.run(Follower(sys.argv[1], FOLLOWED[0], StructMapper(EVENTS), Metrics()).run)
"""


@asynccontextmanager
async def following(dsn: str, log: PgLog | None = None, projection: Any = FOLLOWED[0]) -> AsyncIterator[Metrics]:
    metrics = Metrics()
    follower = Follower(dsn, projection, DECODER, metrics)
    if log is not None:
        log.on_commit(follower.committed)
        log.wakeups.on_foreign(follower.moved)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.run)
        yield metrics
        tasks.cancel_scope.cancel()


async def write(log: PgLog, units: int, apps: Sequence[UUID] = APPS) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(units):
            tasks.start_soon(log.append, unit(apps[number % len(apps)], increment(f"k{number % 7}")))


async def caught_up(connection: asyncpg.Connection, within_s: float = 20) -> None:
    async def look() -> tuple[int, int]:
        return await connection.fetchval(COUNTED), await connection.fetchval(APPENDED)

    await eventually(look, lambda found: found[0] == found[1], within_s)


async def test_a_commit_wakes_the_follower_here_and_in_another_process(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_test_log(dsn, poll_s=30) as here, open_test_log(dsn, poll_s=30) as there, following(dsn, here):
        await write(here, 10)
        await caught_up(connection)
        monkeypatch.setattr(follow, "_LOOK_AGAIN_S", 600.0)
        for log in (here, there, here):
            await write(log, 3)
            await caught_up(connection, within_s=5)
    assert (await verify_projections(dsn, ["statistics"])).clean


async def test_a_long_log_that_was_never_followed_holds_up_nobody(dsn: str, connection: asyncpg.Connection) -> None:
    quiet = UUID(int=99)
    async with open_test_log(dsn) as log:
        await write(log, 3000, APPS[:1])
        async with following(dsn, log) as metrics:
            await eventually(lambda: connection.fetchval(COUNTED))
            await log.append(unit(quiet, set_key("k")))
            await eventually(lambda: connection.fetchval("SELECT position FROM projection_checkpoints WHERE app_id = $1", quiet), lambda found: found == 1)
            await caught_up(connection)
            assert metrics.registry.get_sample_value("picloud_projection_events_total", {"projection": "statistics"}) == 3001
    assert (await verify_projections(dsn, ["statistics"])).clean


async def test_many_small_apps_are_caught_up_with_without_a_rest(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_PAUSE_S", 600.0)
    async with open_test_log(dsn) as log:
        await write(log, 3 * turns.MAX_APPS, [UUID(int=number) for number in range(1, 3 * turns.MAX_APPS + 1)])
        async with following(dsn, log):
            await caught_up(connection)


async def test_followers_that_are_killed_lose_and_double_nothing(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_test_log(dsn) as log, anyio.create_task_group() as tasks:
        tasks.start_soon(write, log, 2000)
        for least in (25, 200, 500, 900):
            async with await anyio.open_process([sys.executable, "-c", CHILD, dsn], stderr=None) as child:
                await eventually(lambda: connection.fetchval(COUNTED), lambda counted, least=least: counted >= least)  # type: ignore[misc]
                child.send_signal(signal.SIGKILL)
                await child.wait()
    async with following(dsn):
        await caught_up(connection)
    findings = await verify_projections(dsn, ["statistics"])
    assert findings.clean, findings
    assert await connection.fetchval(COUNTED) == await connection.fetchval("SELECT count(*) FROM events")


async def test_another_process_takes_over_from_one_that_dies(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOOK_AGAIN_S", 0.05)
    async with open_test_log(dsn) as log, await anyio.open_process([sys.executable, "-c", CHILD, dsn], stderr=None) as child:
        await write(log, 50)
        await caught_up(connection)
        async with following(dsn, log) as metrics:
            child.kill()
            await child.wait()
            await write(log, 50)
            await caught_up(connection)
            assert metrics.registry.get_sample_value("picloud_projection_events_total", {"projection": "statistics"}) == 50


async def test_two_that_follow_at_once_count_once(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a session is lost and its process does not know yet: the lock is there to save work, not to be right."""
    monkeypatch.setitem(follow.SQL, "lead", "SELECT $1::text IS NOT NULL AND $2::bigint IS NOT NULL AND $3::integer IS NOT NULL")
    async with open_test_log(dsn) as log, following(dsn, log), following(dsn, log), following(dsn, log):
        for _ in range(10):
            await write(log, 100)
        await caught_up(connection)
    assert (await verify_projections(dsn, ["statistics"])).clean


async def test_rebuilding_and_verifying_while_it_is_followed(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_test_log(dsn) as log, following(dsn, log), anyio.create_task_group() as tasks:
        tasks.start_soon(write, log, 2000)
        for _ in range(4):
            await rebuild_projections(dsn, ["statistics"])
            findings = await verify_projections(dsn, ["statistics"])
            assert findings.clean, findings
    async with following(dsn):
        await caught_up(connection)
    assert (await verify_projections(dsn)).clean


class Choosy(Statistics):
    """Cannot take some app's events."""

    refused: tuple[UUID, ...] = (APPS[2],)

    def apply(self, events: Sequence[Recorded]) -> Any:
        if any(recorded.app_id in self.refused for recorded in events):
            raise ValueError("not these")
        return super().apply(events)


async def test_an_app_whose_events_cannot_be_applied_stops_no_other(dsn: str, connection: asyncpg.Connection) -> None:
    choosy = Choosy()
    async with open_test_log(dsn) as log, following(dsn, log, choosy) as metrics:
        await write(log, 100)
        await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 80)
        assert metrics.registry.get_sample_value("picloud_projection_failures_total", {"projection": "statistics"})
        choosy.refused = ()
        await caught_up(connection)
    assert (await verify_projections(dsn, ["statistics"])).clean


class Newer(Statistics):
    """The next version of the code, which counts every event twice."""

    version = Statistics.version + 1

    def apply(self, events: Sequence[Recorded]) -> Any:
        return [*super().apply(events), *super().apply(events)]


async def test_a_newer_version_begins_empty_and_an_older_process_stops(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOOK_AGAIN_S", 0.05)
    async with open_test_log(dsn) as log, following(dsn, log):
        await write(log, 100)
        await caught_up(connection)
        await ensure_followed(dsn, [Newer()], DECODER)
        assert await connection.fetchval(COUNTED) == 0
        # The old one is still running: it must not fill the new one's tables.
        await log.append(unit(UUID(int=77), set_key("k")))
        async with following(dsn, log, Newer()):
            await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 202)
            await write(log, 10)
            await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 222)


async def test_a_lost_connection_is_survived(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOOK_AGAIN_S", 0.05)
    async with open_test_log(dsn) as log, following(dsn, log):
        for _ in range(3):
            await write(log, 50)
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'picloud-follower'")
        await caught_up(connection)
    assert (await verify_projections(dsn, ["statistics"])).clean


async def test_a_closed_log_is_not_followed_and_nothing_of_it_comes_back(dsn: str, connection: asyncpg.Connection) -> None:
    """An app is deleted: its log is closed, then whatever is stored of it goes."""
    async with open_test_log(dsn) as log:
        async with following(dsn, log):
            await write(log, 100)
            await caught_up(connection)
        await write(log, 100)
        await log.close_app(APPS[0])
        for table in ("projection_checkpoints", *Statistics.tables):
            await connection.execute(f"DELETE FROM {table} WHERE app_id = $1", APPS[0])
        async with following(dsn, log):
            await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 160)
            await log.append(unit(UUID(int=50), set_key("k")))
            await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 161)
    for table in ("projection_checkpoints", *Statistics.tables):
        assert not await connection.fetch(f"SELECT FROM {table} WHERE app_id = $1", APPS[0])
    assert (await verify_projections(dsn, ["statistics"])).clean


async def test_a_log_that_is_closed_while_it_is_followed(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOOK_AGAIN_S", 0.05)
    async with open_test_log(dsn) as log, following(dsn, log):
        await write(log, 100)
        await caught_up(connection)
        async with connection.transaction():
            await connection.execute("LOCK TABLE statistics_totals IN SHARE MODE")  # the follower has begun, and waits
            await write(log, 100)
            await log.close_app(APPS[0])
        await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 180)
        await write(log, 40, APPS[1:])
        await eventually(lambda: connection.fetchval(COUNTED), lambda counted: counted == 220)
