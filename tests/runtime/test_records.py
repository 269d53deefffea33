"""Execution records: best effort, but one bad record takes no other with it, and none of them holds a credential."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.sandbox import LogLine, ScriptError
from runtime.platform import Platform
from runtime.records import Record
from tests.runtime.world import App, eventually, new_app

pytestmark = pytest.mark.anyio


def record(app: App, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "app_id": app.id,
        "started_at": app.platform.clock(),
        "execution_id": uuid7(),
        "script_id": uuid7(),
        "script_version": 1,
        "source": "http",
        "trigger_id": None,
        "attempt": 1,
        "outcome": "returned",
        "status": 200,
        "duration_ms": 1.0,
        "request_id": "r",
        "actor": "public",
        "correlation_id": None,
        "depth": 0,
        "first_position": None,
        "last_position": None,
        "error": None,
        "logs": (),
        "journal": None,
    }
    return Record(**{**fields, **changes})


async def _count(app: App) -> int:
    counted: int = await app.platform.pool.fetchval("SELECT count(*) FROM execution_records WHERE app_id = $1", app.id)
    return counted


async def test_a_record_that_cannot_be_stored_is_dropped_alone(app: App, platform: Platform) -> None:
    dropped = platform.records.dropped
    for bad in (
        record(app, attempt=2**40),
        record(app, logs=(LogLine("info", "\ud800"),)),
        record(app, journal=msgspec.Raw(b'{"x": "\\ud800"}')),
    ):
        platform.records.add(bad)
        platform.records.add(record(app))
    assert await eventually(lambda: _count(app), lambda count: count == 3) == 3
    assert platform.records.dropped - dropped == 3
    platform.records.add(record(app, error=ScriptError("E", "\x00")))
    assert await eventually(lambda: _count(app), lambda count: count == 4) == 4


async def test_of_a_deleted_app_nothing_is_kept(app: App, platform: Platform) -> None:
    other = await new_app(platform)
    await platform.log.close_app(app.id)
    dropped = platform.records.dropped
    platform.records.add(record(app))
    platform.records.add(record(other))
    assert await eventually(lambda: _count(other), lambda count: count == 1) == 1
    assert await _count(app) == 0
    assert platform.records.dropped == dropped


async def test_more_than_is_kept_in_memory_is_dropped_and_counted(app: App, platform: Platform) -> None:
    dropped = platform.records.dropped
    journal = msgspec.Raw(msgspec.json.encode("x" * 250_000))
    for _ in range(100):
        platform.records.add(record(app, journal=journal))
    assert 0 < platform.records.dropped - dropped < 60
    kept = 100 - (platform.records.dropped - dropped)
    assert await eventually(lambda: _count(app), lambda count: count == kept) == kept
