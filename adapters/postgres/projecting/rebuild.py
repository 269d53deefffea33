"""Rebuilding projections while traffic flows: fill new tables beside the live ones, catch up, swap.

Why the swap needs no other lock than the tables' own (and a writer therefore none beyond those that its statements take anyway):

- A batch that writes one of the tables locks it when its statement is planned, and keeps the lock until it has committed. Once the swap holds all the tables
  ACCESS EXCLUSIVE, every such batch has either committed, and locks are released after a commit has become visible, so the last catch-up sees its events;
  or it has not yet touched any of the tables, and its events are not visible.
- A batch of the second kind waits for the table lock. PostgreSQL takes the locks of a prepared statement before it trusts its plan; the swap has invalidated
  that plan, so the statement is analysed again, its names now find the new tables, and it runs with a snapshot taken after that.
  So its rows go where its events count.
- The same holds for a transaction that keeps an app's head and writes in several statements: if one of them has touched a table, the swap waits for its end;
  otherwise all of them write to the new tables. The swap waits for nothing but these table locks, and gives them up before PostgreSQL looks for deadlocks.

Rows of apps whose logs are closed are deleted from the new tables, lastly under those locks: a log that is closed later is closed before its rows in the live
tables are deleted, and that deletion waits for the swap and finds the new ones.

It would not hold for REPEATABLE READ: a snapshot older than the new rows finds the new table empty. Readers of projections are READ COMMITTED; `verify`, which
is not, excludes rebuilds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import asyncpg
import structlog

from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.projecting.app_views import SCHEMA, hide_tables, show_tables, shown_tables
from adapters.postgres.projecting.checkpoints import Empty, FollowedReplay
from adapters.postgres.projecting.port import Decoder, Progress, Projection, Report, quiet
from adapters.postgres.projecting.replay import SQL, Reading, Replay, catch_up, delete_closed
from adapters.postgres.projecting.session import comment_of, live_schema, open_session
from domain.errors import Unavailable

_SHADOW: Final = "picloud_next"
_SHORT_MS: Final = 100
_PATIENT_MS: Final = 2000
_SHORT_ATTEMPTS: Final = 20
_ATTEMPTS: Final = 120
_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 2.0
_CLEANUP_S: Final = 10.0

log = structlog.get_logger(__name__)


async def rebuild(dsn: str, projections: Sequence[Projection], decoder: Decoder, report: Report = quiet, *, followed: Collection[str] = ()) -> None:
    """Fill these projections anew from the log and swap them in, one after another; each is complete at every instant.

    Those named in `followed` have checkpoints, which then stand where the log did at that instant.

    Raises Unavailable when a table was in use for minutes on end, DatabaseUnusable when a table of a new projection's name is somebody else's or an event
    cannot be read; the live tables are then as they were.
    """
    async with open_session(dsn) as connection:
        await rebuild_in(connection, projections, decoder, report, followed=followed)


async def rebuild_in(
    connection: asyncpg.Connection, projections: Sequence[Projection], decoder: Decoder, report: Report = quiet, *, followed: Collection[str] = ()
) -> None:
    """`rebuild` in a session that holds the lock."""
    async with _shadowed(connection, projections) as live:
        await _fill_and_swap(connection, live, projections, Reading(decoder), report, followed)


async def empty_in(connection: asyncpg.Connection, projections: Sequence[Projection], decoder: Decoder, report: Report = quiet) -> None:
    """Swap in empty tables with checkpoints at the logs' beginnings, in a session that holds the lock: whoever follows fills them."""
    async with _shadowed(connection, projections) as live:
        for projection in projections:
            await _swap_patiently(connection, live, projection, Empty(connection, projection, Reading(decoder)), report)


@asynccontextmanager
async def _shadowed(connection: asyncpg.Connection, projections: Sequence[Projection]) -> AsyncIterator[str]:
    """New tables beside the live ones, whose schema is yielded; what is not swapped in goes."""
    live = await live_schema(connection)
    await _create(connection, live, projections)
    try:
        yield live
    finally:
        with anyio.move_on_after(_CLEANUP_S, shield=True):
            if not connection.is_closed():
                await connection.execute(f"SET search_path = {live}; DROP SCHEMA IF EXISTS {_SHADOW} CASCADE")


async def _create(connection: asyncpg.Connection, live: str, projections: Iterable[Projection]) -> None:
    """New tables in a schema that comes first in the search path; what a killed rebuild has left there goes."""
    async with connection.transaction():
        await connection.execute(f"DROP SCHEMA IF EXISTS {_SHADOW} CASCADE; CREATE SCHEMA {_SHADOW}; SET search_path = {_SHADOW}, {live}")
        for projection in projections:
            await connection.execute(projection.schema)
            for table in projection.tables:
                await connection.execute(f"COMMENT ON TABLE {_SHADOW}.{table} IS '{comment_of(projection.name)}'")


async def _fill_and_swap(  # what `rebuild_in` has
    connection: asyncpg.Connection, live: str, projections: Sequence[Projection], reading: Reading, report: Report, followed: Collection[str]
) -> None:
    filling = Replay(connection, projections, reading, topics=_topics(projections), done={})
    await catch_up(filling, report)
    for projection in projections:
        await delete_closed(connection, _SHADOW, projection.tables)
        for table in projection.tables:
            await connection.execute(f"ANALYZE {_SHADOW}.{table}")
    for projection in projections:
        kind = FollowedReplay if projection.name in followed else Replay
        own = kind(connection, [projection], reading, topics=_topics([projection]), done=filling.done)
        await catch_up(own, report)
        await _swap_patiently(connection, live, projection, own, report)


async def _swap_patiently(connection: asyncpg.Connection, live: str, projection: Projection, replay: Replay, report: Report) -> None:
    """Try until the tables are free for an instant; while a try waits for a lock, writers wait behind it, so each is short and they lie apart.

    A patient one, after many, outlasts `deadlock_timeout` (1 s), at which PostgreSQL ends an autovacuum that is in the way.
    """
    for attempt in range(_ATTEMPTS):
        report(Progress(phase="swapping", projection=projection.name, waits=attempt))
        done = dict(replay.done)
        try:
            await _swap(connection, live, projection, replay, attempt)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            replay.done = done
            await anyio.sleep(min(_PAUSE_S * 1.3**attempt, _MAX_PAUSE_S))
            await catch_up(replay, report)
        except asyncpg.DuplicateTableError as error:
            raise DatabaseUnusable(f"projection {projection.name} cannot be made: {error}") from error
        else:
            log.debug("projection_rebuilt", projection=projection.name, version=projection.version, waits=attempt)
            report(Progress(phase="swapped", projection=projection.name, waits=attempt))
            return
    raise Unavailable(f"the tables of {projection.name} were in use without a break; end the long transaction on them and try again", retry_after_s=60.0)


async def _swap(connection: asyncpg.Connection, live: str, projection: Projection, replay: Replay, attempt: int) -> None:
    """Lock the live tables, replay what is left, exchange the tables: all of it or none."""
    async with connection.transaction():
        old = [row["relname"] for row in await connection.fetch(SQL["tables"], live, comment_of(projection.name))]
        shown = [table for table in await shown_tables(connection, live) if table in old]
        # To lock a view locks it and then its table: in the order in which those lock them who read through it.
        await _lock(connection, [f"{SCHEMA}.{table}" if table in shown else f"{live}.{table}" for table in old], attempt)
        await replay.finish(await replay.heads())
        await delete_closed(connection, _SHADOW, projection.tables)
        await replay.settle()
        for table in projection.tables:
            if table in old:
                await _carry_over(connection, live, table, projection.volatile_columns)
        await hide_tables(connection, shown)
        for table in old:
            await connection.execute(f"DROP TABLE {live}.{table}")
        for table in projection.tables:
            await connection.execute(f"ALTER TABLE {_SHADOW}.{table} SET SCHEMA {live}")
        await show_tables(connection, live)
        await connection.execute(SQL["save_version"], projection.name, projection.version)


async def _lock(connection: asyncpg.Connection, tables: Sequence[str], attempt: int) -> None:
    """Lock the tables in an order that changes from try to try.

    Only the first is waited for patiently: who holds one and waits for the next may be waited for by a batch that came the other way round, and must be the
    first to give up.
    """
    patience = _SHORT_MS if attempt < _SHORT_ATTEMPTS else _PATIENT_MS
    turn = attempt % len(tables) if tables else 0
    for index, table in enumerate((*tables[turn:], *tables[:turn])):
        await connection.execute(f"SET LOCAL lock_timeout = {patience if index == 0 else _SHORT_MS}")
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")


async def _carry_over(connection: asyncpg.Connection, live: str, table: str, volatile: Sequence[str]) -> None:
    """Copy what is not derived from the log from the old rows to the new."""
    columns = {row["attname"] for row in await connection.fetch(SQL["columns"], f"{live}.{table}")}
    carried = [column for column in volatile if column in columns]
    if not carried:
        return
    key = [row["attname"] for row in await connection.fetch(SQL["key_columns"], f"{live}.{table}")]
    sets = ", ".join(f"{column} = old.{column}" for column in carried)
    same = " AND ".join(f"new.{column} = old.{column}" for column in key)
    held = " OR ".join(f"old.{column} IS NOT NULL" for column in carried)
    # Names come from the catalogue and from the projection's own code.
    await connection.execute(f"UPDATE {_SHADOW}.{table} AS new SET {sets} FROM {live}.{table} AS old WHERE {same} AND ({held})")  # noqa: S608


def _topics(projections: Iterable[Projection]) -> set[str]:
    return {event.TOPIC for projection in projections for event in projection.handles}
