"""Projections at the start of a process: made where they are missing, rebuilt where they are older than the code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
import structlog

from adapters.postgres.connect import connect
from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.hints import TAIL_NAME
from adapters.postgres.projecting.port import Decoder, Projection, Report, quiet
from adapters.postgres.projecting.rebuild import empty_in, rebuild_in
from adapters.postgres.projecting.replay import SQL
from adapters.postgres.projecting.session import open_session

log = structlog.get_logger(__name__)


async def ensure_projections(dsn: str, projections: Sequence[Projection], decoder: Decoder, report: Report = quiet) -> None:
    """Bring the projections of a migrated database to the versions of this code; concurrent starters do it once between them.

    A missing or older one is filled from the log, in one reading for all. Raises DatabaseUnusable when the database has a newer one, and what `rebuild` raises.
    """
    async with _session(dsn, projections) as (session, behind):
        if session is not None:
            await rebuild_in(session, behind, decoder, report)


async def ensure_followed(dsn: str, projections: Sequence[Projection], decoder: Decoder, report: Report = quiet) -> None:
    """As `ensure_projections`, but what is missing or older begins empty, and is filled by whoever follows: a start does not wait for a long log."""
    async with _session(dsn, projections) as (session, behind):
        if session is not None:
            await empty_in(session, behind, decoder, report)


@asynccontextmanager
async def _session(dsn: str, projections: Sequence[Projection]) -> AsyncIterator[tuple[asyncpg.Connection | None, list[Projection]]]:
    """A session that holds the lock, and the projections that are behind in it; None when there are none."""
    connection = await connect(dsn)
    try:
        behind = _behind(projections, await _versions(connection))
    finally:
        await connection.close()
    if not behind:
        yield None, behind
        return
    async with open_session(dsn) as session:
        versions = await _versions(session)
        behind = _behind(projections, versions)  # another starter may have done it while we waited
        for projection in behind:
            found = versions.get(projection.name)
            # Nothing was there before: that is a first start, nothing to tell.
            tell = log.debug if found is None else log.info
            tell("projection_behind", projection=projection.name, version=found, wanted=projection.version)
        await _tell_of_others(session, [projection.name for projection in behind if projection.name in versions])
        yield session if behind else None, behind


async def _tell_of_others(connection: asyncpg.Connection, changing: Sequence[str]) -> None:
    """Tell whoever starts us of processes that still run from before: they go on writing rows of these projections as their own code has them."""
    processes = await connection.fetchval(SQL["running"], TAIL_NAME) if changing else 0
    if processes:
        remedy = f"stop them, then: picloud rebuild {' '.join(changing)}"
        log.warning("older_processes_run", processes=processes, meaning="what they write from now on is not what this version reads", remedy=remedy)


async def _versions(connection: asyncpg.Connection) -> dict[str, int]:
    return {row["name"]: row["version"] for row in await connection.fetch(SQL["versions"])}


def _behind(projections: Sequence[Projection], versions: Mapping[str, int]) -> list[Projection]:
    for projection in projections:
        found = versions.get(projection.name, 0)
        if found > projection.version:
            raise DatabaseUnusable(
                f"the database has projection {projection.name} at version {found}, newer than this PiCloud's {projection.version}: start a newer PiCloud"
            )
    return [projection for projection in projections if versions.get(projection.name) != projection.version]
