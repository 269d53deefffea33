"""Routes as events of an app's log; what a route may be and how it matches is in `domain.routing`."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.aggregates import Aggregate
from domain.events import Event
from domain.ids import stream
from domain.routing import Route

ROUTES_GUARD: Final = "routes"


class RouteCreated(Event, frozen=True, kw_only=True):
    """Requests that match are answered by the route's script."""

    TOPIC = "routes.RouteCreated"
    route: Route


class RouteDeleted(Event, frozen=True, kw_only=True):
    """A route is gone."""

    TOPIC = "routes.RouteDeleted"
    route_id: UUID
    script_id: UUID


def route_stream(route_id: UUID) -> str:
    """The stream of a route."""
    return stream("route", route_id)


AGGREGATES: Final = (Aggregate(kind="route", events=(RouteCreated, RouteDeleted), deciders={}, exists=lambda last, _: isinstance(last, RouteCreated)),)
