"""Processes that die, or sleep too long, at the worst moment: effects happen exactly once, and nothing stays claimed."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
import pytest
from anyio import to_thread

from domain.cron import Ticked
from domain.executions import ExecutionDeadLettered, ExecutionFailed, ExecutionSucceeded
from domain.kv import SetKey
from domain.retry import RetryPolicy
from domain.triggers import TriggerSaved, trigger_stream
from runtime.platform import Platform
from runtime.settings import Process, Settings
from tests.runtime.test_cron import EVERY_SECOND, at_least, cron_trigger, soon
from tests.runtime.worker import kill, start
from tests.runtime.world import App, eventually, new_app, running, values

pytestmark = pytest.mark.anyio

PATIENT = RetryPolicy(max_attempts=20, backoff="constant", base_ms=10, jitter_pct=0)
COUNT = """
def handler(ctx):
    kv.collection("count").increment("runs")
    kv.collection("done").set(ctx.event.kv.key, ctx.attempt)
"""
SLOW_AT_FIRST = (
    """
def handler(ctx):
    n = 0
    while ctx.attempt == 1 and n < LOOPS:
        n += 1
""".strip()
    + "\n"
    + COUNT.split("\n", 2)[2]
)


@pytest.fixture
async def watcher(dsn: str) -> AsyncIterator[Platform]:
    """A platform that runs no rows itself, but takes back those of the dead."""
    async with running(dsn, Settings(process=Process(roles=("web", "scheduler"), beat_s=0.1, dead_s=0.5, tail_poll_ms=50))) as platform:
        yield platform


async def _put(app: App, *keys: str) -> None:
    await app.append(*(SetKey(collection="c", key=key, value=msgspec.Raw(b"1")) for key in keys))


async def _claimed(app: App) -> None:
    await eventually(app.outbox, lambda rows: any(row["worker_id"] is not None for row in rows))


async def test_a_process_killed_in_mid_run_is_replaced_by_another(dsn: str, watcher: Platform) -> None:
    app = await new_app(watcher)
    await app.trigger(await app.script(SLOW_AT_FIRST.replace("LOOPS", "10 ** 12"), timeout_s=60), "c", retry=PATIENT)
    first = await to_thread.run_sync(start, dsn)
    await _put(app, "k")
    await _claimed(app)
    kill(first)
    second = await to_thread.run_sync(start, dsn)
    try:
        await app.expect(ExecutionSucceeded)
    finally:
        kill(second)
    assert values(await app.events(ExecutionFailed), "reason") == ["worker_lost"]
    assert await app.kv("count") == {"runs": 1}
    assert await app.kv("done") == {"k": 2}
    assert await app.outbox() == []


async def test_rows_born_claimed_by_a_process_that_is_killed_are_run_by_another(dsn: str, watcher: Platform) -> None:
    """The first process adds them itself and claims them at birth; it has seats for a few of them only, so that the others are not begun when it dies."""
    app = await new_app(watcher)
    keys = [f"k{number}" for number in range(6)]
    fan_out = f"def handler(ctx):\n    for key in {keys!r}:\n        kv.collection('d').set(key, 1)\n"
    await app.trigger(await app.script(fan_out), "c", retry=PATIENT)
    await app.trigger(await app.script(SLOW_AT_FIRST.replace("LOOPS", "10 ** 12"), name="slow", timeout_s=60), "d", retry=PATIENT)
    first = await to_thread.run_sync(start, dsn)
    await _put(app, "k")
    await app.expect(ExecutionSucceeded)
    assert all(row["worker_id"] is not None for row in await app.outbox())
    kill(first)
    second = await to_thread.run_sync(start, dsn)
    try:
        await app.drained()
    finally:
        kill(second)
    assert values(await app.events(ExecutionFailed), "reason") == ["worker_lost"] * len(keys)
    assert await app.kv("count") == {"runs": len(keys)}
    assert await app.kv("done") == dict.fromkeys(keys, 2)


async def test_processes_killed_again_and_again_lose_and_double_nothing(dsn: str, watcher: Platform) -> None:
    app = await new_app(watcher)
    await app.trigger(await app.script(COUNT), "c", retry=PATIENT)
    keys = [f"k{number}" for number in range(300)]
    for at in range(0, 300, 100):
        await _put(app, *keys[at : at + 100])
    for done_before_kill in (1, 60, 150):
        process = await to_thread.run_sync(start, dsn)
        await eventually(lambda: app.kv("done"), lambda done, least=done_before_kill: len(done) >= least)  # type: ignore[misc]
        kill(process)
    last = await to_thread.run_sync(start, dsn)
    try:
        await app.drained()
    finally:
        kill(last)
    assert len(await app.events(ExecutionSucceeded)) == 300
    assert await app.events(ExecutionDeadLettered) == []
    assert await app.kv("count") == {"runs": 300}
    assert set(await app.kv("done")) == set(keys)


async def test_schedulers_killed_again_and_again_tick_once_for_each_time(dsn: str) -> None:
    """Nobody else ticks here: each process is killed as soon as it has ticked, with that tick's run and the next tick under way."""
    async with running(dsn, Settings(process=Process(roles=("web",), tail_poll_ms=50))) as platform:
        app = await new_app(platform)
        script_id = await app.script("def handler(ctx):\n    kv.collection('ran').increment(ctx.event.cron.scheduled_at)\n")
        trigger = msgspec.structs.replace(cron_trigger(script_id, EVERY_SECOND, overlap="queue"), retry=PATIENT)
        await app.put((trigger_stream(trigger.id), TriggerSaved(trigger=trigger, next_due_at=soon())))
        for ticks in (1, 2, 3):
            process = await to_thread.run_sync(start, dsn, "reactor,scheduler")
            await at_least(app, Ticked, ticks)
            kill(process)
        last = await to_thread.run_sync(start, dsn, "reactor,scheduler")
        try:
            first = [_text(tick.scheduled_at) for tick in (await at_least(app, Ticked, 4))[:4]]
            ran = await eventually(lambda: app.kv("ran"), lambda ran: set(first) <= set(ran))
        finally:
            kill(last)
        times = values(await app.events(Ticked), "scheduled_at")
        assert times == sorted(set(times))
        assert set(ran) <= set(map(_text, times))
        assert set(ran.values()) == {1}


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


async def test_a_zombie_cannot_commit(dsn: str, watcher: Platform) -> None:
    """Stopped in mid-run, taken for dead, replaced, and then woken: its own run ends, and is refused."""
    app = await new_app(watcher)
    await app.trigger(await app.script(SLOW_AT_FIRST.replace("LOOPS", "5 * 10 ** 6"), timeout_s=60), "c", retry=PATIENT)
    zombie = await to_thread.run_sync(start, dsn)
    await _put(app, "k")
    await _claimed(app)
    zombie.send_signal(signal.SIGSTOP)
    second = await to_thread.run_sync(start, dsn)
    try:
        await app.expect(ExecutionSucceeded)
        kill(second)
        zombie.send_signal(signal.SIGCONT)
        # The zombie works again once it runs new rows; by then its old run, begun long before, has been refused.
        await _put(app, "later")
        await app.expect(ExecutionSucceeded, 2, within_s=30)
    finally:
        kill(zombie)
    assert await app.kv("count") == {"runs": 2}
    assert await app.kv("done") == {"k": 2, "later": 1} or await app.kv("done") == {"k": 2, "later": 2}
    assert await app.outbox() == []


async def test_a_process_that_is_told_to_stop_gives_back_what_it_cannot_finish(dsn: str, watcher: Platform) -> None:
    app = await new_app(watcher)
    await app.trigger(await app.script(COUNT), "c", retry=PATIENT)
    process = await to_thread.run_sync(start, dsn)
    await _put(app, *(f"k{number}" for number in range(100)))
    await _claimed(app)
    process.terminate()
    assert await to_thread.run_sync(lambda: process.wait(30)) == 0
    kill(process)
    assert [row["worker_id"] for row in await app.outbox() if row["worker_id"] is not None] == []
    assert await app.events(ExecutionFailed) == []
    assert len(await app.events(ExecutionSucceeded)) == 100 - len(await app.outbox())
