"""What administration reads of apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "reads.sql")


class StoredApp(msgspec.Struct, frozen=True):
    """An app."""

    id: UUID
    name: str
    slug: str
    created_at: datetime


async def read_app(reader: Reader, app_id: UUID) -> StoredApp | None:
    """The app of an id."""
    rows = await reader.fetch(_SQL["app"], app_id)
    return _app(rows[0]) if rows else None


async def read_app_of_slug(reader: Reader, slug: str) -> StoredApp | None:
    """The app of a slug."""
    rows = await reader.fetch(_SQL["app_of_slug"], slug)
    return _app(rows[0]) if rows else None


async def page_apps(reader: Reader, only: Sequence[UUID] | None, after: UUID | None, limit: int) -> list[StoredApp]:
    """Apps in the order of their creation: all, or those among `only`."""
    return [_app(row) for row in await reader.fetch(_SQL["apps"], None if only is None else list(only), after, limit)]


async def read_claims(reader: Reader, app_id: UUID) -> list[str]:
    """The host patterns that an app has claimed, beside its own `<slug>.localhost`."""
    return [row["pattern"] for row in await reader.fetch(_SQL["domains"], app_id)]


def _app(row: Mapping[str, Any]) -> StoredApp:
    return StoredApp(row["app_id"], row["name"], row["slug"], row["created_at"])
