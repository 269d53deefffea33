"""Verifying projections: replay the log into temporary tables and compare them with the live ones, at one snapshot.

Most of the log is replayed in short transactions; the last of it, the comparison and the checks of the log share one REPEATABLE READ snapshot, so that a live
system is compared with itself at one instant. There have to be no rows of logs that are closed, once whoever
deletes them has said that it is done. Temporary tables are this connection's alone, are written without WAL, and are gone with it however it ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.projecting.audit import Audit
from adapters.postgres.projecting.checkpoints import ToCheckpoints
from adapters.postgres.projecting.findings import SHOWN_CHARS, Difference, Findings
from adapters.postgres.projecting.port import Decoder, Progress, Projection, Report, quiet
from adapters.postgres.projecting.replay import SQL, Reading, Replay, catch_up, delete_closed
from adapters.postgres.projecting.session import live_schema, open_session

MAX_FINDINGS: Final = 1000


async def verify(
    dsn: str,
    projections: Sequence[Projection],
    decoder: Decoder,
    report: Report = quiet,
    *,
    followed: Collection[str] = (),
    limit: int = MAX_FINDINGS,
) -> Findings:
    """Compare these projections with the log, and check the whole log. Lists at most `limit` differences of a table and `limit` faults. Changes nothing.

    Those named in `followed` are compared with the log up to their checkpoints.

    Raises DatabaseUnusable when a projection is not at the code's version.
    """
    async with open_session(dsn) as connection:
        await _check_versions(connection, projections)
        live = await live_schema(connection)
        await _create(connection, live, projections)
        audit = Audit(decoder, limit)
        replay = Replay(connection, [each for each in projections if each.name not in followed], audit, topics=None, done={})
        behind = [ToCheckpoints(connection, each, Reading(decoder)) for each in projections if each.name in followed]
        for each in (replay, *behind):
            await catch_up(each, report)
        async with connection.transaction(isolation="repeatable_read"):
            heads = await replay.heads()
            await replay.finish(heads)
            for each in behind:
                await each.finish(await each.heads())
            await audit.check_heads(connection)
            await audit.check_streams(connection, heads)
            dropping = [row["app_id"] for row in await connection.fetch(SQL["dropping_logs"])]
            comparison = _Comparison(connection, live, limit, dropping)
            for projection in projections:
                report(Progress(phase="comparing", projection=projection.name))
                await comparison.compare(projection)
        return Findings(
            events=audit.events,
            rows=comparison.rows,
            differences=tuple(comparison.differences),
            faults=tuple(audit.faults),
            omitted=audit.omitted + comparison.omitted,
        )


async def _check_versions(connection: asyncpg.Connection, projections: Sequence[Projection]) -> None:
    versions = {row["name"]: row["version"] for row in await connection.fetch(SQL["versions"])}
    for projection in projections:
        found = versions.get(projection.name)
        if found != projection.version:
            stands = "is missing" if found is None else f"is at version {found}"
            raise DatabaseUnusable(f"projection {projection.name} {stands}, this PiCloud's is {projection.version}: rebuild it first")


async def _create(connection: asyncpg.Connection, live: str, projections: Sequence[Projection]) -> None:
    await connection.execute(f"SET temp_buffers = '64MB'; SET search_path = pg_temp, {live}")
    for projection in projections:
        await connection.execute(projection.schema)


class _Comparison:
    """Compares live tables with temporary ones of the same names, row by row, by their primary keys."""

    def __init__(self, connection: asyncpg.Connection, live: str, limit: int, dropping: Sequence[UUID]) -> None:
        self._connection = connection
        self._live = live
        self._limit = limit
        self._dropping = dropping
        self.differences: list[Difference] = []
        self.rows = 0
        self.omitted = 0

    async def compare(self, projection: Projection) -> None:
        """All tables of a projection."""
        await delete_closed(self._connection, "pg_temp", projection.tables)
        for table in projection.tables:
            await self._connection.execute(f"ANALYZE pg_temp.{table}")
            await self._compare(projection, table)

    async def _compare(self, projection: Projection, table: str) -> None:
        replayed = f"pg_temp.{table}"
        key = [row["attname"] for row in await self._connection.fetch(SQL["key_columns"], replayed)]
        columns = [row["attname"] for row in await self._connection.fetch(SQL["columns"], replayed)]
        compared = [column for column in columns if column not in key and column not in projection.volatile_columns]
        # Names of our own code and catalogue, here and below.
        kept = "(app_id <> ALL ($1)) IS NOT FALSE" if "app_id" in columns else "$1::uuid[] IS NOT NULL"
        self.rows += await self._connection.fetchval(f"SELECT count(*) FROM {self._live}.{table} WHERE {kept}", self._dropping)  # noqa: S608
        live = f"(SELECT * FROM {self._live}.{table} WHERE {kept})"  # noqa: S608
        rows = await self._connection.fetch(_comparison(live, replayed, key, compared), self._dropping, self._limit)
        self.differences.extend(_difference(projection.name, table, row, key, compared) for row in rows)
        self.omitted += rows[0]["found"] - len(rows) if rows else 0


def _comparison(live: str, replayed: str, key: Sequence[str], compared: Sequence[str]) -> str:
    """SQL whose rows have the key, whether either side is missing, and of each compared column both values and whether they differ."""
    same = " AND ".join(f"l.{column} = r.{column}" for column in key)
    keys = [f"coalesce(l.{column}, r.{column})::text AS key_{column}" for column in key]
    values = [
        f"left(l.{column}::text, {SHOWN_CHARS}) AS live_{column}, left(r.{column}::text, {SHOWN_CHARS}) AS replayed_{column}, "
        f"l.{column} IS DISTINCT FROM r.{column} AS differs_{column}"
        for column in compared
    ]
    sides = [f"l.{key[0]} IS NULL AS missing", f"r.{key[0]} IS NULL AS extra"]
    unequal = " OR ".join([f"l.{key[0]} IS NULL", f"r.{key[0]} IS NULL", *(f"l.{column} IS DISTINCT FROM r.{column}" for column in compared)])
    selected = ", ".join(["count(*) OVER () AS found", *sides, *keys, *values])
    return f"SELECT {selected} FROM {live} l FULL JOIN {replayed} r ON {same} WHERE {unequal} ORDER BY {', '.join(f'key_{column}' for column in key)} LIMIT $2"  # noqa: S608


def _difference(projection: str, table: str, row: Any, key: Sequence[str], compared: Sequence[str]) -> Difference:
    names = {column: row[f"key_{column}"] for column in key}
    if row["missing"] or row["extra"]:
        return Difference(projection=projection, table=table, kind="missing" if row["missing"] else "extra", key=names)
    differing = {column: (row[f"live_{column}"], row[f"replayed_{column}"]) for column in compared if row[f"differs_{column}"]}
    return Difference(projection=projection, table=table, kind="different", key=names, columns=differing)
