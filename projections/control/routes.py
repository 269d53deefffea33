"""The projection `routes`: the routes of each app, as structs of `domain.routing` in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.events import Event, Recorded
from domain.routes import RouteCreated, RouteDeleted
from domain.statements import load_sql
from projections.base import Stages
from projections.rows import changes

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
        last = {(recorded.app_id, recorded.stream): recorded for recorded in events}.values()
        saved = [
            {"app_id": r.app_id, "route_id": r.event.route.id, "script_id": r.event.route.script_id, "route": r.event.route, "created_at": r.recorded_at}
            for r in last
            if isinstance(r.event, RouteCreated)
        ]
        gone = [{"app_id": recorded.app_id, "route_id": recorded.event.route_id} for recorded in last if isinstance(recorded.event, RouteDeleted)]
        return [changes(_SQL["save_routes"], saved, _SQL["delete_routes"], gone)]
