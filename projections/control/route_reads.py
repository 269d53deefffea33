"""What administration reads of routes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.routing import Route
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "reads.sql")


class StoredRoute(msgspec.Struct, frozen=True):
    """A route and since when it stands."""

    app_id: UUID
    route: Route
    created_at: datetime


async def read_route(reader: Reader, app_id: UUID, route_id: UUID) -> StoredRoute | None:
    """A route of this app."""
    rows = await reader.fetch(_SQL["route"], app_id, route_id)
    return _route(rows[0]) if rows else None


async def app_of_route(reader: Reader, route_id: UUID) -> UUID | None:
    """The app that a route belongs to."""
    rows = await reader.fetch(_SQL["app_of_route"], route_id)
    return rows[0]["app_id"] if rows else None


async def read_routes(reader: Reader, app_id: UUID) -> list[StoredRoute]:
    """All routes of an app, in the order of their creation."""
    return [_route(row) for row in await reader.fetch(_SQL["routes"], app_id)]


async def page_routes_of_script(reader: Reader, app_id: UUID, script_id: UUID, after: UUID | None, limit: int) -> list[StoredRoute]:
    """A script's routes, in the order of their creation."""
    return [_route(row) for row in await reader.fetch(_SQL["routes_of_script"], app_id, script_id, after, limit)]


def _route(row: Mapping[str, Any]) -> StoredRoute:
    return StoredRoute(row["app_id"], msgspec.json.decode(row["route"], type=Route), row["created_at"])
