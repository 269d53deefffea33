"""What it costs a script's read to be shown one app's rows alone, against the same statement without that wall.

`owner` reads the tables through asyncpg's pool, as administration does. `views` reads as scripts do, always for one app; `views, 12 apps` for twelve of
them in turn, so that most reads have to show a connection another app first. `policy` is what is not done: row-level security on the tables, for one app.
All on five connections; `CPU ms` is of both sides, this process and PostgreSQL's. Numbers are those of one read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import psutil

from adapters.postgres.app_readers import open_app_readers
from adapters.postgres.connect import open_pool
from adapters.postgres.reader import PgReader
from benchmarks.common import Table, arguments, open_database, open_server, report
from benchmarks.load import Found, cpu, in_turns, postmaster_of, run, share, spread, values
from domain.docs.queries import parse_query
from domain.ports import Reader
from projections.docs.reads import find_documents
from projections.files.reads import read_file
from projections.kv.live import get_entry

APPS = [UUID(int=number) for number in range(1, 13)]
_CONNECTIONS = 5
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_COLUMNS = ["", "ms", "CPU ms", "CPU to owner's"]
_FILL = """
INSERT INTO kv_entries (app_id, collection, key, value, version, updated_at)
SELECT $1::uuid, 'c', 'k' || n, n::text, 1, now() FROM generate_series(1, $2::integer) n;
INSERT INTO files
SELECT $1::uuid, 'c', lpad(to_hex(n), 32, '0')::uuid, 'name', 'text/plain', 3, repeat('a', 64), 1, now(), now() FROM generate_series(1, $2::integer) n;
INSERT INTO documents (app_id, collection, id, data, tree, version, created_at, updated_at)
SELECT $1::uuid, 'c', lpad(n::text, 8, '0'), d.data, jsonb_build_object($1::uuid::text || '/c', d.data::jsonb), 1, now(), now()
FROM generate_series(1, $2::integer) n, LATERAL (SELECT jsonb_build_object('n', n, 'rare', n % ($2 / 10))::text) AS d (data)
"""
_POLICY = """
CREATE ROLE {role};
GRANT {role} TO CURRENT_USER;
GRANT SELECT ON kv_entries, files, documents TO {role};
"""
_POLICY_OF = """
CREATE POLICY one_app ON {table} FOR SELECT TO {role} USING (app_id = current_setting('picloud.app', true)::uuid);
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
"""

ReaderOf = Callable[[UUID], Reader]
Ask = Callable[[Reader, UUID, int], Awaitable[object]]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of each kind in each app, reads a round, and how many go on at once."""

    rows: int = 5_000
    reads: int = 1_000
    at_once: tuple[int, ...] = (1, 8)


async def _entry(reader: Reader, app_id: UUID, number: int) -> object:
    return await get_entry(reader, app_id, "c", f"k{number}", _NOW)


async def _file(reader: Reader, app_id: UUID, number: int) -> object:
    return await read_file(reader, app_id, "c", UUID(int=number))


async def _find(reader: Reader, app_id: UUID, number: int) -> object:
    return (await find_documents(reader, app_id, "c", parse_query({"rare": number}), max_bytes=1 << 20))[0]


ASKS: dict[str, Ask] = {"kv get": _entry, "file": _file, "docs find, 10 found": _find}


@asynccontextmanager
async def under_policy(dsn: str) -> AsyncIterator[ReaderOf]:
    """Readers of the first app under a policy. The role is this database's own, and goes with the server."""
    role = f"policy_{dsn.rpartition('/')[2].partition('?')[0]}"
    connection = await asyncpg.connect(dsn)
    await connection.execute(_POLICY.format(role=role))
    for table in ("kv_entries", "files", "documents"):
        await connection.execute(_POLICY_OF.format(table=table, role=role))
    await connection.close()
    async with open_pool(dsn, _CONNECTIONS, role=role, **{"picloud.app": str(APPS[0])}) as pool:
        yield lambda _app_id: PgReader(pool)


async def measure_one(readers: ReaderOf, apps: list[UUID], ask: Ask, at_once: int, size: Size, postmaster: psutil.Process) -> dict[str, float]:
    async def one(number: int) -> None:
        app_id = apps[number % len(apps)]
        assert await ask(readers(app_id), app_id, number % 100 + 1)

    before, begun = cpu(psutil.Process(), postmaster), time.perf_counter()
    await share(range(size.reads), one, at_once)
    duration_s = time.perf_counter() - begun
    return {"ms": duration_s * 1000 / size.reads, "cpu": cpu(psutil.Process(), postmaster).since(before).each_ms(size.reads)["cpu"]}


async def measure(server: str, rounds: int, size: Size) -> list[Table]:
    postmaster = postmaster_of(server)
    async with (
        open_database(server) as dsn,
        open_pool(dsn, _CONNECTIONS) as pool,
        open_app_readers(dsn, _CONNECTIONS) as readers,
        under_policy(dsn) as policy,
    ):
        for app_id in APPS:
            for statement in _FILL.split(";"):
                await pool.execute(statement, app_id, size.rows, timeout=300)
        await pool.execute("VACUUM ANALYZE kv_entries, files, documents")
        owner = PgReader(pool)
        ways: dict[str, tuple[ReaderOf, list[UUID]]] = {
            "owner": (lambda _: owner, APPS[:1]),
            "views": (readers, APPS[:1]),
            "views, 12 apps": (readers, APPS),
            "policy": (policy, APPS[:1]),
        }
        cells: dict[str, Any] = {}
        for name, ask in ASKS.items():
            for at_once in size.at_once:
                for way, (readers_of, apps) in ways.items():
                    cells[f"{name}, {at_once} at once: {way}"] = partial(measure_one, readers_of, apps, ask, at_once, size, postmaster)
        found = await in_turns(rounds, cells)
    return [Table(f"reads of {len(APPS)} apps with {size.rows:,} rows of each kind", _COLUMNS, _rows(found), dict(values(found)))]


def _rows(found: Found) -> list[list[str]]:
    rows = []
    for name, series in found.items():
        owner = found[f"{name.rpartition(': ')[0]}: owner"]
        rows.append([name, spread(series["ms"], 3), spread(series["cpu"], 3), f"{series['cpu'].over(owner['cpu']):.2f}"])
    return rows


def main() -> None:
    options = arguments(__doc__ or "")
    with open_server() as server:
        report("apps", run(measure, server, options.rounds, Size()), options.json)


if __name__ == "__main__":
    main()
