"""The projection `routes`: the routes of each app, as structs of `domain.routing` in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.events import Event, Recorded
from domain.routes import RouteCreated, RouteDeleted
from domain.statements import load_sql
from projections.base import Stages
from projections.rows import Life, changed, lives

_SQL: Final = load_sql("projections.control", "routes.sql")


class Routes:
    """Table `routes`."""

    name = "routes"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("routes",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({RouteCreated, RouteDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each route."""
        return changed(lives(events, RouteDeleted), RouteDeleted, _row, _SQL["save_routes"], _SQL["delete_routes"])


def _row(life: Life) -> dict[str, Any]:
    match life.last.event:
        case RouteCreated(route=route):
            return {"app_id": life.last.app_id, "route_id": route.id, "script_id": route.script_id, "route": route, "created_at": life.created_at}
        case RouteDeleted(route_id=route_id):
            return {"app_id": life.last.app_id, "route_id": route_id}
        case _:
            raise TypeError(life.last.event)
