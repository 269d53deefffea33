"""Deleted apps: nothing but their logs is left, whoever dies on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import msgspec
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from domain.apps import AppDeleted, AppPurged, app_stream
from domain.errors import LogClosed
from domain.ids import NIL_APP
from domain.kv import SetKey
from runtime.database import rebuild_projections, verify_projections
from runtime.maintenance import Job
from runtime.platform import Platform
from runtime.purge import Purge
from runtime.settings import Process, Settings
from runtime.subscribers import subscriber_keys
from tests.runtime.full_app import ONE, full_app, left
from tests.runtime.worker import kill, start
from tests.runtime.world import QUICK, App, delete_app, eventually, new_app, purged, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with running(dsn, msgspec.structs.replace(QUICK, data_dir=tmp_path)) as opened:
        yield opened


@pytest.fixture
async def bystander(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """A platform that purges nothing: it has no reactor."""
    settings = Settings(data_dir=tmp_path, process=Process(roles=("web", "scheduler"), beat_s=0.1, dead_s=0.5, tail_poll_ms=50))
    async with running(dsn, settings) as opened:
        yield opened


async def declare_deleted(app: App) -> None:
    nil = App(app.platform, NIL_APP)
    await nil.put((app_stream(app.id), AppDeleted(app_id=app.id, slug=f"a{app.id.hex}", name="test")))


async def is_clean(dsn: str) -> bool:
    findings = await verify_projections(dsn)
    assert findings.clean, findings
    return findings.clean


async def test_nothing_but_the_log_is_left(platform: Platform, dsn: str) -> None:
    app, other = await full_app(platform), await full_app(platform)
    events = len(await app.events())
    await delete_app(app)
    assert await left(platform.pool, app) == set()
    assert await left(platform.pool, other)
    assert len(await app.events()) == events
    with pytest.raises(LogClosed):
        await app.append(SetKey(collection="c", key="k", value=ONE))
    assert await is_clean(dsn)
    await rebuild_projections(dsn)
    assert await left(platform.pool, app) == set()
    assert await is_clean(dsn)
    (row,) = await platform.pool.fetch("SELECT * FROM deleted_apps")
    assert (row["deleted_id"], row["name"], row["purged_at"] is not None) == (app.id, "test", True)


async def test_what_is_left_after_a_purge_is_found(platform: Platform, dsn: str) -> None:
    app = await new_app(platform)
    await app.append(SetKey(collection="c", key="k", value=ONE))
    await platform.pool.execute("CREATE TABLE kept AS SELECT to_jsonb(k) AS row FROM kv_entries k")
    await delete_app(app)
    await platform.pool.execute("INSERT INTO kv_entries SELECT (jsonb_populate_record(NULL::kv_entries, row)).* FROM kept")
    findings = await verify_projections(dsn, ["kv"])
    assert [(found.table, found.kind) for found in findings.differences] == [("kv_entries", "extra")]


async def test_a_purge_under_way_is_no_finding_and_a_rebuild_meanwhile_brings_nothing_back(bystander: Platform, dsn: str) -> None:
    app = await new_app(bystander)
    for collection in ("a", "b"):
        await app.append(SetKey(collection=collection, key="k", value=ONE))
    await declare_deleted(app)
    await bystander.log.close_app(app.id)
    await bystander.pool.execute("DELETE FROM kv_entries WHERE app_id = $1 AND collection = 'a'", app.id)
    assert await is_clean(dsn)
    await rebuild_projections(dsn)
    assert await left(bystander.pool, app) == set()
    assert await is_clean(dsn)


@pytest.mark.parametrize("table", ["documents", "kv_entries", "unit_keys", "file_blobs"])
async def test_a_purge_whose_process_is_killed_is_finished_by_another(bystander: Platform, dsn: str, table: str, tmp_path: Path) -> None:
    # A reactor is needed to make the app full; it is gone before the app is deleted.
    maker = await to_thread.run_sync(lambda: start(dsn, PICLOUD_DATA_DIR=str(tmp_path)))
    try:
        app, other = await full_app(bystander), await new_app(bystander)
    finally:
        kill(maker)
    await other.append(SetKey(collection="c", key="k", value=ONE))
    await declare_deleted(app)
    holder = await asyncpg.connect(dsn)
    try:
        await holder.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE")
        first = await to_thread.run_sync(lambda: start(dsn, PICLOUD_DATA_DIR=str(tmp_path)))
        try:
            await eventually(lambda: waiting(bystander, table))
        finally:
            kill(first)
        assert table in await left(bystander.pool, app)
    finally:
        await holder.close()
    assert await App(bystander, NIL_APP).events(AppPurged) == []
    second = await to_thread.run_sync(lambda: start(dsn, PICLOUD_DATA_DIR=str(tmp_path)))
    try:
        await purged(app)
    finally:
        kill(second)
    assert await left(bystander.pool, app) == set()
    assert await other.kv("c") == {"k": 1}
    assert await is_clean(dsn)


async def waiting(platform: Platform, table: str) -> bool:
    """Whether somebody waits for a table."""
    found: bool = await platform.pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted)", table)
    return found


async def test_two_processes_at_once_purge_once(dsn: str, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(QUICK, data_dir=tmp_path)
    async with running(dsn, settings) as one, running(dsn, settings) as two:
        apps = [await full_app(one) for _ in range(2)]

        async def purge_without_asking_who_else_does(platform: Platform) -> None:
            await platform.purge._purge_all()

        async with anyio.create_task_group() as tasks:
            for app in apps:
                await declare_deleted(app)
            for platform in (one, two, one, two):
                tasks.start_soon(purge_without_asking_who_else_does, platform)
        for app in apps:
            await purged(app)
            assert await left(one.pool, app) == set()
        assert len(await App(one, NIL_APP).events(AppPurged)) == 2
    assert await is_clean(dsn)


async def test_a_purge_and_a_rebuild_at_once_leave_nothing_and_lose_nothing(platform: Platform, dsn: str) -> None:
    kept = await new_app(platform)
    await kept.append(SetKey(collection="c", key="k", value=ONE))
    for _ in range(3):
        apps = [await new_app(platform) for _ in range(4)]
        for app in apps:
            await app.append(*(SetKey(collection="c", key=f"k{number}", value=ONE) for number in range(50)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rebuild_projections, dsn, ["kv", "apps"])
            for app in apps:
                tasks.start_soon(delete_app, app)
        for app in apps:
            assert await left(platform.pool, app) == set()
    assert await kept.kv("c") == {"k": 1}
    assert await is_clean(dsn)


async def test_an_app_that_cannot_be_purged_now_keeps_no_other_waiting(platform: Platform, dsn: str) -> None:
    first, second = await new_app(platform), await new_app(platform)
    for app in (first, second):
        await app.append(SetKey(collection="c", key="k", value=ONE))
    holder = await asyncpg.connect(dsn)
    try:
        await holder.execute("BEGIN")
        await holder.execute("SELECT FROM kv_entries WHERE app_id = $1 FOR UPDATE", first.id)
        await declare_deleted(first)
        await delete_app(second)
        assert await first.kv("c") == {"k": 1}
    finally:
        await holder.close()
    await purged(first)


async def test_a_server_that_is_away_is_told_of_as_no_fault(bystander: Platform) -> None:
    async def refused(name: str, job: Job) -> bool:
        raise ConnectionRefusedError(f"{name}: {job}")

    purge = Purge(bystander.log, bystander.appender, bystander.reader, refused, bystander.blob_sweep.claim, bystander.clock)
    await declare_deleted(await new_app(bystander))
    with capture_logs() as logs:

        async def told() -> list[str]:
            return [entry["log_level"] for entry in logs if entry["event"].startswith("purge_")]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(purge.run)
            assert set(await eventually(told)) == {"warning"}
            tasks.cancel_scope.cancel()


async def test_a_deleted_app_gets_no_signing_key(platform: Platform) -> None:
    app = await new_app(platform)
    await platform.log.close_app(app.id)
    with pytest.raises(LogClosed):
        await subscriber_keys(platform.reader).active(app.id)
    assert "vault_subscriber_keys" not in await left(platform.pool, app)


SLOW = """
def handler(ctx):
    kv.collection("c").set("begun", 1)
    n = 0
    while n < 3 * 10 ** 6:
        n += 1
"""


async def test_a_run_in_progress_when_its_app_is_deleted_commits_nothing(platform: Platform) -> None:
    app = await new_app(platform)
    script = await app.script(SLOW, timeout_s=30)
    await app.trigger(script, "t")
    view = await platform.directory.view(app.id)
    assert script in view.scripts
    errors: list[type[Exception]] = []

    async def run() -> None:
        try:
            await app.run(script)
        except LogClosed as error:
            errors.append(type(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await app.append(SetKey(collection="t", key="k", value=ONE))
        await eventually(app.outbox, lambda rows: any(row["worker_id"] is not None for row in rows))
        before = len(await app.events())
        await delete_app(app)
        await platform.log.close_app(app.id)
    assert errors == [LogClosed]
    await eventually(lambda: _held(platform), lambda rows: rows == 0)
    assert len(await app.events()) == before
    assert await left(platform.pool, app) == set()


async def _held(platform: Platform) -> Any:
    return len(platform.reactor._backlog)
