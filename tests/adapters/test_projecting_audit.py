from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import verify
from domain.errors import Invalid
from domain.events import Metadata
from domain.kv import SetKey
from domain.registry import EVENTS
from domain.units import Change, Unit
from projections.registry import PROJECTIONS
from runtime.database import rebuild_projections, verify_projections
from tests.adapters.test_projecting_swap import opened

pytestmark = pytest.mark.anyio
APP = UUID(int=1)
KEYS = ("a", "b", "a", "a")
"""What is set, in order: positions 1 to 4; `a` has versions 1 to 3 at 1, 3 and 4."""


@pytest.fixture
async def damaged(dsn: str, connection: asyncpg.Connection) -> asyncpg.Connection:
    """A connection that may change the log, which holds four events."""
    async with opened(dsn) as log:
        for number, key in enumerate(KEYS):
            change = Change(SetKey(collection="c", key=key, value=msgspec.Raw(b"%d" % number)))
            await log.append(Unit(app_id=APP, metadata=Metadata(unit_id=uuid4()), now=datetime.now(UTC), changes=(change,)))
    await connection.execute("SET session_replication_role = replica")
    return connection


@pytest.mark.usefixtures("damaged")
async def test_an_undamaged_log_is_clean(dsn: str) -> None:
    findings = await verify_projections(dsn)
    assert findings.clean
    assert (findings.events, findings.rows) == (4, 2)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("DELETE FROM events WHERE position = 2", [("gap", 3)]),
        ("DELETE FROM events WHERE position = 3", [("gap", 4), ("stream", 4)]),
        ("DELETE FROM events WHERE position = 4", [("head", 3)]),
        ("UPDATE log_head SET position = 3", [("head", 4)]),
        ("DELETE FROM log_head", [("head", 4)]),
        ("UPDATE events SET recorded_at = recorded_at - interval '1 day' WHERE position = 3", [("time", 3)]),
        ("UPDATE events SET topic = 'kv.Unheard' WHERE position = 1", [("unreadable", 1)]),
        ("UPDATE events SET state = 'x' WHERE position = 1", [("unreadable", 1)]),
        ("UPDATE events SET metadata = '{}' WHERE position = 1", [("unreadable", 1)]),
        ("UPDATE events SET originator_version = 7 WHERE position = 4", [("stream", 4)]),
    ],
)
async def test_each_damage_to_the_log_is_found(dsn: str, damaged: asyncpg.Connection, damage: str, expected: list[tuple[str, int]]) -> None:
    await damaged.execute(damage)
    findings = await verify_projections(dsn)
    assert [(fault.kind, fault.position) for fault in findings.faults] == expected, findings


async def test_a_rebuild_from_an_unreadable_log_leaves_the_live_tables(dsn: str, damaged: asyncpg.Connection) -> None:
    await damaged.execute("UPDATE events SET state = 'x' WHERE position = 2")
    with pytest.raises(DatabaseUnusable, match="event 2 of app 00000000-0000-0000-0000-000000000001 cannot be read"):
        await rebuild_projections(dsn)
    assert await damaged.fetchval("SELECT count(*) FROM kv_entries") == 2
    assert not await damaged.fetch("SELECT FROM pg_namespace WHERE nspname = 'picloud_next'")


async def test_findings_over_the_limit_are_counted(dsn: str, damaged: asyncpg.Connection) -> None:
    await damaged.execute("DELETE FROM kv_entries; UPDATE events SET originator_version = originator_version + 10; UPDATE log_head SET position = 3")
    findings = await verify(dsn, PROJECTIONS, StructMapper(EVENTS), limit=1)
    assert [(found.kind, found.key["key"]) for found in findings.differences] == [("missing", "a")]
    assert [fault.kind for fault in findings.faults] == ["head"]
    assert findings.omitted == 2


async def test_unknown_names_and_other_versions_are_refused(dsn: str, connection: asyncpg.Connection) -> None:
    with pytest.raises(Invalid, match="'kw' is no projection; there are kv, "):
        await verify_projections(dsn, ["kw"])
    with pytest.raises(Invalid, match="'kw' is no projection"):
        await rebuild_projections(dsn, ["kv", "kw"])
    await connection.execute("UPDATE projection_versions SET version = 0 WHERE name = 'kv'")
    with pytest.raises(DatabaseUnusable, match="projection kv is at version 0, this PiCloud's is 1: rebuild it first"):
        await verify_projections(dsn, ["kv"])
