from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import anyio
import asyncpg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from adapters.postgres.connect import open_pool
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import replay
from domain.events import Recorded
from domain.registry import EVENTS, RULES
from domain.units import Unit
from projections.project import projector
from projections.registry import PROJECTIONS
from runtime.database import rebuild_projections, verify_projections
from tests.model.histories import History, Step, histories
from tests.model.outbox_model import OutboxModel
from tests.postgres import cloned

pytestmark = pytest.mark.anyio
TABLES = [(projection, table) for projection in PROJECTIONS for table in projection.tables]


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[PgLog]:
    async with (
        open_pool(dsn, 2) as pool,
        open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=projector(PROJECTIONS)) as log,
    ):
        yield log


async def live_through(log: PgLog, batches: list[list[Step]], history: History | None = None) -> OutboxModel:
    """Append each batch's units at once, so that they are committed together; returns what a plain model makes of the events."""
    history = history or History(OutboxModel())
    model = history.model
    for steps in batches:
        events: list[Recorded] = []

        async def append(unit: Unit, events: list[Recorded] = events) -> None:
            events.extend(await log.append(unit))

        async with anyio.create_task_group() as together:
            for unit in history.batch(steps):
                together.start_soon(append, unit)
        model.fold(sorted(events, key=lambda recorded: (recorded.app_id, recorded.position)))
    return model


async def claim_some(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE outbox SET worker_id = md5(id::text)::uuid, fence = nextval('claim_fences') WHERE md5(id::text) < '8'")


async def contents(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """Every row of every projection, claims included."""
    return {table: sorted(row[0] for row in await connection.fetch(f"SELECT t::text FROM {table} t")) for _, table in TABLES}


async def check_outbox(connection: asyncpg.Connection, model: OutboxModel) -> None:
    found = {(row["app_id"], row["id"]): row for row in await connection.fetch("SELECT * FROM outbox")}
    expected = {
        key: (row.task.cause_position, row.task.source, row.task.trigger_id, row.task.script_id, row.due_at, row.attempt, row.first_attempt_at)
        for key, row in model.open.items()
    }
    columns = ("cause_position", "source", "trigger_id", "script_id", "due_at", "attempt", "first_attempt_at")
    assert {key: tuple(row[column] for column in columns) for key, row in found.items()} == expected


@settings(max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(batches=histories, page=st.integers(1, 40))
async def test_rebuilt_equals_live(server_dsn: str, template: str, batches: list[list[Step]], page: int) -> None:
    async with cloned(server_dsn, template) as dsn:
        async with opened(dsn) as log:
            model = await live_through(log, batches)
        connection = await asyncpg.connect(dsn)
        try:
            await check_outbox(connection, model)
            await claim_some(connection)
            live = await contents(connection)
            with patch.object(replay, "PAGE_POSITIONS", page):
                findings = await verify_projections(dsn)
                assert findings.clean, findings
                await rebuild_projections(dsn)
            assert await contents(connection) == live
        finally:
            await connection.close()


FULL: list[list[Step]] = [
    [("kv", a, b, c) for a in range(2) for b in range(4) for c in range(3)],
    [("file", a, b, c) for b in (1, 1, 2, 3) for a in range(4) for c in range(3)],
    [("script", 0, 0, 1), ("script", 0, 1, 1), ("route", 0, 1, 1), ("route", 1, 1, 1), ("trigger", 0, 0, 0), ("trigger", 1, 0, 0), ("trigger", 1, 3, 0)],
    [("app", 0, 0, 1), ("app", 0, 1, 1), ("app", 1, 0, 1), ("domain", 0, 0, 0), ("domain", 0, 1, 0), ("user", 0, 0, 0), ("user", 0, 1, 0)],
    [("user", a, b, c) for b in range(2) for a in (0, 2, 3, 1, 3) for c in range(3)],
    [(kind, a, b, c) for kind in ("member", "api_key") for a in range(3) for b in range(4) for c in range(3)],
    [("member", 3, 0, 0), ("member", 3, 1, 1), ("api_key", 3, 0, 0), ("api_key", 3, 1, 1)],
    [("secret", 0, 0, 0), ("secret", 0, 1, 0)],
    [("settings", 0, 0, 0), ("settings", 0, 1, 1), ("settings", 1, 0, 0), ("settings", 0, 0, 2)],
    [("topic", 0, 0, 1), ("topic", 2, 0, 1), ("publish", 0, 0, 0), ("publish", 1, 1, 0)],
    [("accept", 0, 0, 0), ("accept", 1, 0, 0), ("accept", 0, 1, 2), ("kv", 0, 0, 0), ("kv", 1, 1, 0), ("abandon", 1, 1, 0)],
    [("outcome", 0, 0, 0), ("outcome", 0, 3, 0), ("outcome", 1, 3, 1)],
    [("docs", a, b, c) for a in range(2) for b in range(4) for c in range(3)],
    [("cron", 0, 0, 2), ("cron", 0, 1, 2), ("cron", 0, 1, 1)],
]


def tampering(table: str, columns: list[str], key: list[str], typed: dict[str, str]) -> dict[str, str]:
    """For each kind of difference the statement that makes one."""
    first = f"ctid = (SELECT ctid FROM {table} ORDER BY {', '.join(key)} LIMIT 1)"
    fresh = {"uuid": "gen_random_uuid()", "text": "'tampered'", "integer": "-7", "bigint": "-7"}
    unique = {"slug", "username_key", *key}
    copied = ", ".join(fresh[typed[column]] if column in unique or column in {"script_id", "route_id"} else column for column in columns)
    changed = next(column for column in columns if column not in key and typed[column] in fresh)
    return {
        "missing": f"DELETE FROM {table} WHERE {first}",
        "extra": f"INSERT INTO {table} SELECT {copied} FROM {table} WHERE {first}",
        "different": f"UPDATE {table} SET {changed} = {fresh[typed[changed]]} WHERE {first}",
    }


async def test_verify_reports_exactly_what_was_tampered_with(dsn: str, connection: asyncpg.Connection) -> None:
    async with opened(dsn) as log:
        await live_through(log, FULL)
    for projection, table in TABLES:
        key = [row[0] for row in await connection.fetch(replay.SQL["key_columns"], table)]
        described: list[Any] = await connection.fetch(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0", table
        )
        typed = {name: type_name for name, type_name in described if name not in projection.volatile_columns}
        for kind, statement in tampering(table, [name for name, _ in described], key, {**dict.fromkeys(["fence", "worker_id"], ""), **typed}).items():
            before = await connection.fetch(f"SELECT * FROM {table}")
            assert before, f"{table} is empty: the history does not reach it"
            await connection.execute(statement)
            findings = await verify_projections(dsn, [projection.name])
            assert [(found.table, found.kind) for found in findings.differences] == [(table, kind)], findings
            assert not findings.faults
            assert kind != "different" or len(findings.differences[0].columns) == 1
            assert sorted(findings.differences[0].key) == sorted(key)
            await rebuild_projections(dsn, [projection.name])
            assert sorted(map(str, await connection.fetch(f"SELECT * FROM {table}"))) == sorted(map(str, before))
