"""Bringing a database to what this program needs, and keeping its projections true to the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from adapters.postgres.connect import connect
from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.mapper import StructMapper
from adapters.postgres.migrate import migrate
from adapters.postgres.projecting import Findings, Report, ensure_app_views, ensure_followed, ensure_projections, rebuild, verify
from adapters.postgres.projecting.port import quiet
from domain.errors import Invalid
from domain.registry import EVENTS
from projections.base import Projection
from projections.registry import FOLLOWED, PROJECTIONS

_FOLLOWED_NAMES: Final = frozenset(projection.name for projection in FOLLOWED)


async def prepare_database(dsn: str, report: Report = quiet) -> None:
    """Migrate, then make or rebuild the projections that are missing or older than the code, and what scripts see of them.

    Those that are followed are only emptied, and filled while the instance serves. Raises DatabaseUnusable, naming what is in the way.
    """
    await migrate(dsn)
    await ensure_projections(dsn, PROJECTIONS, StructMapper(EVENTS), report)
    await ensure_followed(dsn, FOLLOWED, StructMapper(EVENTS), report)
    await ensure_app_views(dsn)


async def require_prepared(dsn: str) -> None:
    """Raise DatabaseUnusable unless this program has prepared the database: for commands that must change nothing."""
    connection = await connect(dsn)
    try:
        if not await connection.fetchval("SELECT to_regclass('projection_versions') IS NOT NULL"):
            raise DatabaseUnusable("this database holds no PiCloud instance; `picloud serve` makes one")
    finally:
        await connection.close()


async def rebuild_projections(dsn: str, names: Sequence[str] = (), report: Report = quiet) -> None:
    """Rebuild these projections (none named: all) while traffic flows. Raises Invalid for an unknown name, else what `rebuild` raises."""
    await rebuild(dsn, _named(names), StructMapper(EVENTS), report, followed=_FOLLOWED_NAMES)


async def verify_projections(dsn: str, names: Sequence[str] = (), report: Report = quiet) -> Findings:
    """Compare these projections (none named: all) with the log, and check the log. Raises Invalid for an unknown name, else what `verify` raises."""
    return await verify(dsn, _named(names), StructMapper(EVENTS), report, followed=_FOLLOWED_NAMES)


def _named(names: Sequence[str]) -> Sequence[Projection]:
    known = {projection.name: projection for projection in (*PROJECTIONS, *FOLLOWED)}
    for name in names:
        if name not in known:
            raise Invalid(f"{name!r} is no projection; there are {', '.join(known)}", field="name")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())
