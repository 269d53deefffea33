"""Reads that are answered from what this process remembers of the log: never asked for, never trusted at commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.kv import SetKey, entry_stream
from domain.ports import Reader
from domain.units import Stream
from runtime.platform import Platform
from runtime.settings import Process, Settings
from tests.runtime.world import App, eventually, new_app, reply, running

pytestmark = pytest.mark.anyio

GET = "def handler(ctx):\n    return [kv.collection('c').get('k')]\n"
ADD_ONE = "def handler(ctx):\n    c = kv.collection('c')\n    c.set('k', (c.get('k') or 0) + 1)\n    return c.get('k')\n"
DEAF = Settings(process=Process(tail_poll_ms=60_000))
"""A process that hears of another's commits by hints alone."""


def put(value: int, ttl_s: float | None = None) -> SetKey:
    return SetKey(collection="c", key="k", value=msgspec.Raw(b"%d" % value), ttl_s=ttl_s)


class CountingReaders:
    """The platform's readers of one app's runs, and how often they were asked for an entry."""

    def __init__(self, app: App) -> None:
        self._app_id = app.id
        self._real = app.platform.app_readers(app.id)
        self.entries = 0

    def __call__(self, app_id: UUID) -> Reader:
        assert app_id == self._app_id
        return self

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]:
        self.entries += "FROM kv_entries" in sql
        return await self._real.fetch(sql, *args)


@asynccontextmanager
async def counted(app: App) -> AsyncIterator[CountingReaders]:
    executor = app.platform.executor
    reader, real = CountingReaders(app), executor.readers
    executor.readers = reader
    try:
        yield reader
    finally:
        executor.readers = real


async def test_what_was_written_here_needs_no_read(app: App) -> None:
    script = await app.script(ADD_ONE)
    async with counted(app) as reader:
        assert [reply(await app.run(script)) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert reader.entries <= 1


async def test_what_is_remembered_looks_like_what_is_read(app: App, platform: Platform) -> None:
    script = await app.script("def handler(ctx):\n    return kv.collection('c').entry('k')\n")
    await app.append(put(7))
    async with counted(app) as reader:
        remembered = reply(await app.run(script))
    platform.executor.recall, recall = _forgetful, platform.executor.recall
    try:
        read = reply(await app.run(script))
    finally:
        platform.executor.recall = recall
    assert reader.entries == 0
    assert remembered == read
    assert remembered["version"] == 1


async def test_a_remembered_entry_expires(dsn: str) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    async with running(dsn, clock=lambda: now[0], settings=DEAF) as platform:
        app = await new_app(platform)
        script = await app.script(GET)
        await app.append(put(1, ttl_s=60))
        async with counted(app) as reader:
            assert reply(await app.run(script)) == [1]
            now[0] += timedelta(seconds=61)
            assert reply(await app.run(script)) == [None]
        assert reader.entries == 0


async def test_what_another_process_has_written_is_seen_at_once(dsn: str) -> None:
    """However late this process hears of it: an answer from memory is checked before anybody gets it."""
    async with running(dsn, settings=DEAF) as here, running(dsn, settings=DEAF) as there:
        app = await new_app(here)
        other = App(there, app.id)
        get, add = await app.script(GET), await app.script(ADD_ONE, name="add")
        here.executor.recall = _Remembering(app.id, entry_stream("c", "k"), await _written(app, 1))
        for number in range(2, 6):
            await other.append(put(number))
            outcome = await app.run(get)
            assert reply(outcome) == [number]
            assert outcome.reruns == 1
        assert reply(await app.run(add)) == 6


async def test_what_is_known_to_be_old_is_not_remembered(dsn: str) -> None:
    async with running(dsn) as here, running(dsn) as there:
        app = await new_app(here)
        stream = entry_stream("c", "k")
        await app.append(put(1))
        assert here.log.recall(app.id, stream) is not None
        written = await App(there, app.id).append(put(2))

        async def known() -> int:
            return here.log.wakeups.position(app.id)

        await eventually(known, lambda position: position >= written[-1].position)
        assert here.log.recall(app.id, stream) is None


def _forgetful(app_id: UUID, stream: str) -> None:
    """Remembers nothing."""


async def _written(app: App, value: int) -> Stream:
    (recorded,) = await app.append(put(value))
    return Stream(recorded.version, recorded.event, recorded.recorded_at)


class _Remembering:
    """Remembers one stream as it once was, for ever."""

    def __init__(self, app_id: UUID, name: str, stream: Stream) -> None:
        self._known = {(app_id, name): stream}

    def __call__(self, app_id: UUID, stream: str) -> Stream | None:
        return self._known.get((app_id, stream))
