"""Finding documents among 10^5 of one collection, with and without an index that helps, against plain asyncpg on the same table.

`PiCloud` is what a script's `find` does on the host: the filter is parsed and compiled, the page bounded by bytes, the rows made into documents. `plain` is the
statement that one would write by hand for that very question, its rows as they come. Both ask for the first 100 by id unless the question sorts, and have to
find the same ids. `CPU ms` is of both sides, this process and PostgreSQL's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import psutil

from adapters.postgres.connect import open_pool
from adapters.postgres.reader import PgReader
from benchmarks.common import Table, arguments, open_database, open_server, report
from benchmarks.load import Found, cpu, in_turns, postmaster_of, run, spread, values
from domain.docs.queries import parse_query
from projections.docs.reads import find_documents

APP = UUID(int=1)
_SCOPE = f"{APP}/c"
_COLUMNS = ["", "PiCloud ms", "CPU ms", "plain ms", "CPU ms", "cost"]
_MAX_BYTES = 4 * 1024 * 1024
_FILL = """
INSERT INTO documents (app_id, collection, id, data, tree, version, created_at, updated_at)
SELECT $1::uuid, 'c', lpad(n::text, 8, '0'), d.data, jsonb_build_object($2::text, d.data::jsonb), 1, now(), now()
FROM
    generate_series(1, $3::integer) AS n,
    LATERAL (
        SELECT jsonb_build_object(
            'n', n, 'rare', n % ($3 / 10), 'half', n % 2, 'name', 'guest ' || n,
            'address', jsonb_build_object('city', 'city ' || n % 1000), 'tags', '["a", "b"]'::jsonb
        )::text
    ) AS d (data)
"""
_PLAIN = "SELECT id, data, version, created_at, updated_at FROM documents WHERE app_id = $1 AND collection = $2 AND "

Ask = Callable[[], Awaitable[list[str]]]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Documents, and how often a question is asked in a round."""

    documents: int = 100_000
    quick: int = 200
    slow: int = 5


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A filter, and the end of the statement that asks the same by hand with its parameters behind the first two."""

    filter: dict[str, Any]
    sql: str
    args: tuple[Any, ...]
    is_quick: bool


def questions(documents: int) -> dict[str, Question]:
    def tree(value: Any) -> str:
        return msgspec.json.encode({_SCOPE: value}).decode()

    above = documents - 10
    return {
        "index: one field, 10 found": Question(
            filter={"rare": 7}, sql="octet_length(data) <= 16384 AND tree @> $3::jsonb ORDER BY id LIMIT 100", args=(tree({"rare": 7}),), is_quick=True
        ),
        "index: a nested field, 0.1 % found": Question(
            filter={"address.city": "city 7"},
            sql="octet_length(data) <= 16384 AND tree @> $3::jsonb ORDER BY id LIMIT 100",
            args=(tree({"address": {"city": "city 7"}}),),
            is_quick=True,
        ),
        "index: half of all, the first 100": Question(
            filter={"half": 1}, sql="octet_length(data) <= 16384 AND tree @> $3::jsonb ORDER BY id LIMIT 100", args=(tree({"half": 1}),), is_quick=False
        ),
        "no index: a range, 10 found": Question(
            filter={"n": {"$gt": above}},
            sql="(tree -> $3::text -> 'n')::numeric > $4::numeric ORDER BY id LIMIT 100",
            args=(_SCOPE, above),
            is_quick=False,
        ),
        "no index: a prefix, sorted": Question(
            filter={"name": {"$prefix": "guest 7"}, "$sort": {"n": -1}},
            sql="starts_with(tree -> $3::text ->> 'name', $4) ORDER BY (tree -> $3::text -> 'n')::numeric DESC, id LIMIT 100",
            args=(_SCOPE, "guest 7"),
            is_quick=False,
        ),
        "the first 100 by id": Question(filter={}, sql="true ORDER BY id LIMIT 100", args=(), is_quick=True),
    }


def asked(pool: asyncpg.Pool, plain_pool: asyncpg.Pool, question: Question) -> dict[str, Ask]:
    reader = PgReader(pool)

    async def ours() -> list[str]:
        documents, _ = await find_documents(reader, APP, "c", parse_query(question.filter), max_bytes=_MAX_BYTES)
        return [document.id for document in documents]

    async def plain() -> list[str]:
        return [row["id"] for row in await plain_pool.fetch(_PLAIN + question.sql, APP, "c", *question.args)]

    return {"PiCloud": ours, "plain": plain}


async def measure_one(ask: Ask, times: int, postmaster: psutil.Process) -> dict[str, float]:
    before, begun = cpu(psutil.Process(), postmaster), time.perf_counter()
    for _ in range(times):
        await ask()
    duration_s = time.perf_counter() - begun
    return {"ms": duration_s * 1000 / times, "cpu": cpu(psutil.Process(), postmaster).since(before).each_ms(times)["cpu"]}


async def measure(server: str, rounds: int, size: Size) -> list[Table]:
    postmaster = postmaster_of(server)
    async with open_database(server) as dsn, open_pool(dsn, 1) as pool, asyncpg.create_pool(dsn, min_size=1, max_size=1) as plain_pool:
        await pool.execute(_FILL, APP, _SCOPE, size.documents, timeout=300)
        await pool.execute("VACUUM ANALYZE documents")
        cells = {}
        for name, question in questions(size.documents).items():
            asks = asked(pool, plain_pool, question)
            answers = [await ask() for ask in asks.values()]
            assert answers[0] == answers[1] != [], name
            times = size.quick if question.is_quick else size.slow
            cells.update({f"{name}: {who}": partial(measure_one, ask, times, postmaster) for who, ask in asks.items()})
        found = await in_turns(rounds, cells)
    return [Table(f"docs: find at {size.documents:,} documents; cost is PiCloud's CPU to plain's", _COLUMNS, _rows(found), _by_question(found))]


def _by_question(found: Found) -> dict[str, Any]:
    numbers: dict[str, dict[str, Any]] = {}
    for name, series in values(found).items():
        question, _, who = name.rpartition(": ")
        numbers.setdefault(question, {})[who] = series
    return numbers


def _rows(found: Found) -> list[list[str]]:
    rows = []
    for name in dict.fromkeys(name.rpartition(": ")[0] for name in found):
        ours, plain = found[f"{name}: PiCloud"], found[f"{name}: plain"]
        rows.append([name, spread(ours["ms"]), spread(ours["cpu"]), spread(plain["ms"]), spread(plain["cpu"]), f"{ours['cpu'].over(plain['cpu']):.2f}"])
    return rows


def main() -> None:
    options = arguments(__doc__ or "")
    with open_server() as server:
        report("docs", run(measure, server, options.rounds, Size()), options.json)


if __name__ == "__main__":
    main()
