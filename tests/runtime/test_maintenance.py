"""What happens by the clock: expiry once, retention by events that a rebuild repeats."""

from __future__ import annotations

from datetime import timedelta

import anyio
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.clock import utc_now
from domain.executions import ExecutionAbandoned, ExecutionDeadLettered, ExecutionSucceeded, execution_stream
from domain.kv import KvExpired, SetKey
from domain.retention import RetentionApplied
from domain.retry import RetryPolicy
from domain.units import Record
from runtime.database import rebuild_projections, verify_projections
from runtime.settings import Postgres, Process, Retention, Settings
from tests.runtime.world import App, eventually, new_app, running

pytestmark = pytest.mark.anyio

SWEEPING = Settings(process=Process(beat_s=0.2, dead_s=1.0, tail_poll_ms=50), retention=Retention(sweep_interval_s=0.05))


async def _put(app: App, *keys: str, ttl_s: float | None = None) -> None:
    await app.append(*(SetKey(collection="c", key=key, value=msgspec.Raw(b"1"), ttl_s=ttl_s) for key in keys))


async def test_two_processes_sweep_each_expired_key_once(dsn: str) -> None:
    async with running(dsn, SWEEPING) as one, running(dsn, SWEEPING) as two:
        app, closed = await new_app(one), await new_app(two)
        await _put(closed, *(f"k{number}" for number in range(600)), ttl_s=0.01)
        await one.log.close_app(closed.id)
        await _put(app, *(f"k{number}" for number in range(700)), ttl_s=0.05)
        await _put(app, "stays", ttl_s=1000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.maintenance.sweep_expired)
            tasks.start_soon(two.maintenance.sweep_expired)
        await app.expect(KvExpired, 700)
        await one.maintenance.sweep_expired()
        assert len({recorded.stream for recorded in await app.expect(KvExpired, 700)}) == 700
        assert await app.kv("c") == {"stays": 1}


async def test_jobs_do_not_hold_connections_that_others_need(dsn: str) -> None:
    """They all begin at once, and each of them reads."""
    with anyio.fail_after(20):
        async with running(dsn, msgspec.structs.replace(SWEEPING, pg=Postgres(pool_max=1))) as platform:
            app = await new_app(platform)
            await _put(app, "k", ttl_s=0.01)
            await app.expect(KvExpired)


async def test_retention_shrinks_read_models_and_a_rebuild_agrees(dsn: str) -> None:
    fails = "def handler(ctx):\n    if ctx.event.kv.key == 'bad':\n        raise ValueError('no')\n"
    async with running(dsn) as platform:
        app = await new_app(platform)
        await app.trigger(await app.script(fails), "c", retry=RetryPolicy(max_attempts=1))
        await _put(app, "good", "bad")
        gone = uuid7()
        await app.append(Record(name=execution_stream(gone), event=ExecutionAbandoned(execution_id=gone, script_id=uuid7(), status=200)))
        await app.expect(ExecutionSucceeded)
        await app.expect(ExecutionDeadLettered)
    assert await _counts(dsn, app) == (3, 1)
    later = lambda: utc_now() + timedelta(days=8)  # noqa: E731  # a clock
    async with running(dsn, clock=later) as platform:
        await platform.maintenance.retain()
        there = App(platform, app.id)
        kept = await eventually(lambda: there.events(RetentionApplied), lambda events: len(events) >= 2)
        assert {recorded.event.projection for recorded in kept} == {"executions", "abandoned"}  # type: ignore[attr-defined]
    assert await _counts(dsn, app) == (0, 1)
    async with running(dsn, clock=lambda: utc_now() + timedelta(days=31)) as platform:
        await platform.maintenance.retain()
    assert await _counts(dsn, app) == (0, 0)
    assert (await verify_projections(dsn)).clean
    await rebuild_projections(dsn)
    assert await _counts(dsn, app) == (0, 0)


async def _counts(dsn: str, app: App) -> tuple[int, int]:
    async with running(dsn, Settings(process=Process(roles=("web",)))) as platform:
        pool = platform.pool
        executions = await pool.fetchval("SELECT count(*) FROM executions WHERE app_id = $1", app.id)
        return executions, await pool.fetchval("SELECT count(*) FROM dead_letters WHERE app_id = $1", app.id)
