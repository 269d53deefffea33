"""Bringing a database to what this program needs, before anything else uses it."""

from __future__ import annotations

from adapters.postgres.mapper import StructMapper
from adapters.postgres.migrate import migrate
from adapters.postgres.projecting import Report, ensure_projections
from adapters.postgres.projecting.port import quiet
from domain.registry import EVENTS
from projections.registry import PROJECTIONS


async def prepare_database(dsn: str, report: Report = quiet) -> None:
    """Migrate, then make or rebuild the projections that are missing or older than the code. Raises DatabaseUnusable, naming what is in the way."""
    await migrate(dsn)
    await ensure_projections(dsn, PROJECTIONS, StructMapper(EVENTS), report)
