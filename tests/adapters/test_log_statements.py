"""How batches become SQL: the singular form of statements, and that the hot statements use their indexes."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from adapters.postgres.batch import Batch, EventColumns, FenceRow, HeadMove, KeyRow, compose
from adapters.postgres.singular import in_singular
from domain.statements import Statement, load_sql
from tests.adapters.log_support import check_logs, delete_key, open_test_log, set_key, unit

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOG_SQL = load_sql("adapters.postgres", "log.sql")


def test_one_row_needs_no_arrays() -> None:
    aliased = Statement("DELETE FROM t USING unnest($1::uuid[], $2::text[]) AS gone (a, b) WHERE t.a = gone.a", ([1], ["x"]), counted="n")
    assert in_singular(aliased) == Statement("DELETE FROM t USING (VALUES ($1::uuid, $2::text)) AS gone (a, b) WHERE t.a = gone.a", (1, "x"), counted="n")
    bare = Statement("INSERT INTO t SELECT *, 1\nFROM unnest(\n  $1::bigint[],\n  $2::timestamptz[])\nRETURNING 1", ([1], [None]))
    assert in_singular(bare) == Statement("INSERT INTO t SELECT *, 1\nFROM (VALUES ($1::bigint,\n  $2::timestamptz)) AS one\nRETURNING 1", (1, None))
    two = Statement("SELECT FROM unnest($1::int[]) AS a (x) JOIN unnest($2::int[]) AS b (x) ON a.x = b.x", ([1], [2]))
    assert in_singular(two).sql == "SELECT FROM (VALUES ($1::int)) AS a (x) JOIN (VALUES ($2::int)) AS b (x) ON a.x = b.x"


@pytest.mark.parametrize(
    "statement",
    [
        Statement("INSERT INTO t SELECT * FROM unnest($1::uuid[], $2::text[])", ([1, 2], ["x", "y"])),
        Statement("INSERT INTO t SELECT * FROM unnest($1::uuid[], $2::text[])", ([1], ["x", "y"])),
        Statement("DELETE FROM t WHERE id = ANY ($1::uuid[])", ([1],)),
        Statement("INSERT INTO t SELECT a, $2 FROM unnest($1::uuid[]) AS u (a)", ([1], ["x"])),
        Statement("INSERT INTO t SELECT * FROM jsonb_populate_recordset(NULL::t, $1::text::jsonb)", ("[]",)),
        Statement("DELETE FROM t", ()),
    ],
)
def test_other_statements_stay_as_they_are(statement: Statement) -> None:
    assert in_singular(statement) == statement


async def test_one_and_many_rows_come_to_the_same(dsn: str, connection: asyncpg.Connection) -> None:
    """The same history, a unit at a time and all at once, leaves the same rows."""
    apps = [UUID(int=1), UUID(int=2)]
    history = [set_key("a", 1), set_key("b", 2, ttl_s=60), set_key("a", 3), delete_key("b"), set_key("c", None)]
    async with open_test_log(dsn) as log:
        for effect in history:
            await log.append(unit(apps[0], effect, now=NOW))
        await log.append(unit(apps[1], *history, now=NOW))
    await check_logs(dsn)
    entries = "SELECT collection, key, value, version, expires_at FROM kv_entries WHERE app_id = $1 ORDER BY key"
    events = "SELECT position, originator_id, originator_version, topic, state FROM events WHERE app_id = $1 ORDER BY position"
    for query in (entries, events):
        assert await connection.fetch(query, apps[0]) == await connection.fetch(query, apps[1])


def _batch(heads: int, *, fenced: bool = False, keyed: bool = False) -> Batch:
    apps = [uuid7() for _ in range(heads)]
    each = len(apps)
    return Batch(
        heads=[HeadMove(app, 0, 0, 1, NOW) for app in apps],
        events=EventColumns(list(range(1, each + 1)), [1] * each, ["s"] * each, [1] * each, ["t"] * each, [b"{}"] * each, ["{}"] * each),
        fences=[FenceRow(app, uuid7(), 1) for app in apps] if fenced else [],
        keys=[KeyRow(app, "k", 1, 1, NOW) for app in apps] if keyed else [],
        notify="x",
    )


async def _plan(connection: asyncpg.Connection, sql: str, *args: object) -> str:
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *args))


async def _fill(connection: asyncpg.Connection) -> None:
    """Enough rows that reading a whole table is the wrong plan."""
    await connection.execute("INSERT INTO log_head (app_id) SELECT gen_random_uuid() FROM generate_series(1, 3000)")
    await connection.execute(
        """
        INSERT INTO events SELECT $1, n, 'kv:c:' || n / 4, n % 4 + 1, 'kv.KvSet', '{}', '{}', now() FROM generate_series(0, 19999) AS n
        """,
        UUID(int=1),
    )
    await connection.execute(
        "INSERT INTO outbox (app_id, id, cause_position, source, script_id, due_at, attempt) SELECT $1, gen_random_uuid(), n, 'kv', $1, now(), 1 "
        "FROM generate_series(1, 5000) AS n",
        UUID(int=1),
    )
    await connection.execute("ANALYZE")


@pytest.mark.parametrize("heads", [1, 20])
async def test_a_batch_reads_no_table_whole(connection: asyncpg.Connection, heads: int) -> None:
    await _fill(connection)
    statement = compose(_batch(heads, fenced=True, keyed=True))
    plan = await _plan(connection, statement.sql, *statement.args)
    assert "log_head_pkey" in plan
    assert "Tid Scan on log_head" in plan
    assert "outbox_pkey" in plan
    assert "Seq Scan" not in plan


async def test_reads_use_their_indexes(connection: asyncpg.Connection) -> None:
    await _fill(connection)
    app = UUID(int=1)
    for name, args, index in [
        ("load_streams", ([app], ["s"], [True], 1), "events_stream_version"),
        ("load_versions", (app, ["s"], [True]), "events_stream_version"),
        ("read_events", (app, 0, 10, 100), "events_pkey"),
        ("read_page", (app, 0, 10, 100), "events_pkey"),
        ("read_stream", (app, "s", 10), "events_stream_version"),
        ("read_stream_version", (app, "s", 1), "events_stream_version"),
        ("read_positions", ([app], [1]), "events_pkey"),
        ("read_causes", ([app], [1], 1), "events_pkey"),
        ("read_causes", ([app], [1], 1), "events_stream_version"),
        ("position_at", (app, NOW), "events_pkey"),
        ("is_committed", (app, 1, "u"), "events_pkey"),
        ("find_unit_keys", ([app], ["k"]), "events_pkey"),
    ]:
        plan = await _plan(connection, LOG_SQL[name], *args)
        assert index in plan, name
        assert "Seq Scan on events" not in plan, name


def _blocks() -> list[str]:
    """Every named block of SQL that is shipped with the projections."""
    root = resources.files("projections")
    folders = [folder for folder in root.iterdir() if folder.is_dir()]
    files = [(f"projections.{folder.name}", file.name) for folder in folders for file in folder.iterdir() if file.name.endswith(".sql")]
    return [sql for package, file in files for sql in load_sql(package, file).values()]


async def test_statements_of_all_projections_are_sound_in_the_singular(connection: asyncpg.Connection) -> None:
    count = 0
    for sql in _blocks():
        single = in_singular(Statement(sql, tuple([None] for _ in range(sql.count("[]")))))
        if single.sql != sql:
            await connection.prepare(single.sql)
            count += 1
    assert count >= 5
