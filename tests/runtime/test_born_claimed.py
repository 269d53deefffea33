"""Rows that a process claims in the very commit that adds them: who takes which, and that none is lost or run twice."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from domain.executions import ExecutionFailed, ExecutionSucceeded
from domain.kv import SetKey
from domain.triggers import TriggerSaved, trigger_stream
from domain.units import Effect, Record
from projections.outbox.claims import release_others
from runtime.backlog import MAX_AHEAD
from runtime.database import rebuild_projections, verify_projections
from runtime.platform import Platform
from runtime.reactor import _FINISH_WITHIN_S
from runtime.settings import Process, Settings
from tests.adapters.proxy import open_proxy
from tests.runtime.world import App, eventually, new_app, running

pytestmark = pytest.mark.anyio

COUNT = """
def handler(ctx):
    kv.collection("count").increment("runs")
    kv.collection("done").set(ctx.event.kv.key, ctx.attempt)
"""
LOOP = "def handler(ctx):\n    while True: pass\n"
SLOW = "def handler(ctx):\n    n = 0\n    while n < 300000:\n        n += 1\n" + COUNT.split("\n", 2)[2]
ONLY_WEB = Settings(process=Process(roles=("web",), tail_poll_ms=50))


def put(key: object, collection: str = "c") -> Effect:
    return SetKey(collection=collection, key=str(key), value=msgspec.Raw(b"1"))


async def _transactions(app: App, table: str) -> list[str]:
    """By which transactions the rows of an app were last written."""
    sql = f"SELECT xmin::text AS xmin FROM {table} WHERE app_id = $1 ORDER BY xmin::text::bigint"
    return [row["xmin"] for row in await app.platform.pool.fetch(sql, app.id)]


async def _claimed_here(app: App) -> int:
    return [row["worker_id"] for row in await app.outbox()].count(app.platform.worker_id)


async def _warmed(app: App, collection: str = "warm") -> None:
    """Have the reactor look and find that nothing else is due."""
    await app.trigger(await app.script("def handler(ctx):\n    pass\n", name=collection), collection)
    await app.append(put("k", collection))
    await app.drained()


async def test_a_row_is_claimed_in_the_commit_that_adds_it(app: App, platform: Platform) -> None:
    await _warmed(app)
    await app.trigger(await app.script(LOOP, timeout_s=1.0), "c")
    await app.append(put("k"))
    (row,) = await app.outbox()
    assert row["worker_id"] == platform.worker_id
    assert await _transactions(app, "outbox") == (await _transactions(app, "events"))[-1:]
    await app.drained()


async def test_what_there_is_no_room_for_is_born_free_and_leaves_room_for_others(app: App, platform: Platform) -> None:
    await _warmed(app)
    trigger = await app.trigger(await app.script(LOOP, timeout_s=2.0), "c")
    await app.append(*map(put, range(400)))
    assert 0 < await eventually(lambda: _claimed_here(app)) < 200
    other = await new_app(platform)
    await other.trigger(await other.script(COUNT), "c")
    await other.append(put("k"))
    await other.expect(ExecutionSucceeded)
    assert len(await app.outbox()) > 300, "the busy app was done too soon to show anything"
    disabled = msgspec.structs.replace(trigger, enabled=False)
    await app.append(Record(name=trigger_stream(trigger.id), event=TriggerSaved(trigger=disabled)))
    await app.drained(within_s=60)


async def test_a_process_without_a_reactor_takes_nothing(dsn: str) -> None:
    async with running(dsn, ONLY_WEB) as platform:
        app = await new_app(platform)
        await app.trigger(await app.script(COUNT), "c")
        await app.append(put("k"))
        assert [(row["worker_id"], row["fence"]) for row in await app.outbox()] == [(None, None)]


@pytest.mark.parametrize("what", ["answer", "request"])
async def test_a_commit_whose_answer_is_lost_leaves_nothing_claimed(dsn: str, what: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_proxy(dsn, Path(directory)) as (proxy, through), running(through) as platform:
            app = await new_app(platform)
            await app.trigger(await app.script(COUNT), "c")
            await app.append(put("first"))
            await app.drained()
            proxy.cut(what)
            await app.append(put("second"), put("third"))
            assert proxy.cuts == 1
            await app.expect(ExecutionSucceeded, 3)
            await app.drained()
            assert await app.kv("count") == {"runs": 3}
            assert await app.kv("done") == {"first": 1, "second": 1, "third": 1}
            assert await app.events(ExecutionFailed) == []


async def test_every_answer_lost_under_load(dsn: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_proxy(dsn, Path(directory)) as (proxy, through), running(through) as platform:
            app = await new_app(platform)
            await app.trigger(await app.script(COUNT), "c")
            await app.append(put("first"))
            await app.drained()
            proxy.cut("answer", times=5)
            async with anyio.create_task_group() as writers:
                for number in range(100):
                    writers.start_soon(app.append, put(number))
            await app.drained()
            assert proxy.cuts == 5
            assert len(await app.events(ExecutionSucceeded)) == 101
            assert await app.kv("count") == {"runs": 101}
            assert set((await app.kv("done")).values()) == {1}


async def test_only_rows_under_other_fences_are_given_back(app: App, platform: Platform) -> None:
    await _warmed(app)
    await app.trigger(await app.script(LOOP, timeout_s=1.0), "c")
    await app.append(put("k"), put("l"))
    known, stray = await app.outbox()
    await release_others(platform.reader, platform.worker_id, [known["fence"]])
    rows = {row["id"]: row["worker_id"] for row in await app.outbox()}
    assert rows[known["id"]] == platform.worker_id
    assert rows[stray["id"]] is None or (await app.outbox())[1]["fence"] != stray["fence"]
    await app.drained()


async def test_a_process_that_ends_gives_back_what_it_has_not_run(dsn: str) -> None:
    async with running(dsn, ONLY_WEB) as watcher:
        async with running(dsn) as platform:
            app = await new_app(platform)
            await _warmed(app)
            await app.trigger(await app.script(LOOP, timeout_s=30.0), "c")
            await app.append(*map(put, range(20)))
            assert await _claimed_here(app) > 0
        watched = App(watcher, app.id)
        assert {row["worker_id"] for row in await watched.outbox()} == {None}
        assert len(await watched.outbox()) == 20
        assert await watched.events(ExecutionFailed) == []


async def test_a_process_that_ends_waits_for_what_runs_and_not_for_what_waits(dsn: str) -> None:
    """Rows are claimed far ahead here, as they are after many short runs."""
    async with running(dsn, ONLY_WEB) as watcher:
        async with running(dsn) as platform:
            app = await new_app(platform)
            await _warmed(app)
            await app.trigger(await app.script(SLOW), "c")
            platform.reactor._backlog._ahead = MAX_AHEAD
            await app.append(*map(put, range(MAX_AHEAD)))
            await eventually(lambda: _claimed_here(app), lambda rows: rows > 20)
            began = anyio.current_time()
        assert anyio.current_time() - began < _FINISH_WITHIN_S - 1
        watched = App(watcher, app.id)
        assert {row["worker_id"] for row in await watched.outbox()} == {None}
        assert await watched.events(ExecutionFailed) == []


async def test_a_row_of_an_app_that_is_closed_meanwhile_is_given_back(app: App, platform: Platform) -> None:
    await _warmed(app)
    await app.trigger(await app.script(SLOW), "c")
    await app.append(put("k"))
    assert await _claimed_here(app) == 1
    await platform.log.close_app(app.id)
    await eventually(lambda: _claimed_here(app), lambda rows: rows == 0)
    assert len(await app.outbox()) == 1


async def test_a_rebuild_carries_claims_over(dsn: str) -> None:
    async with running(dsn) as platform:
        app = await new_app(platform)
        await _warmed(app)
        await app.trigger(await app.script(SLOW), "c")
        await app.append(*map(put, range(8)))
        assert await _claimed_here(app) > 0
        await rebuild_projections(dsn, ["outbox"])
        await app.append(put("last"))
        await app.expect(ExecutionSucceeded, 10)
        await app.drained()
        assert await app.kv("count") == {"runs": 9}
        assert set((await app.kv("done")).values()) == {1}
        assert (await verify_projections(dsn, ["outbox"])).clean
