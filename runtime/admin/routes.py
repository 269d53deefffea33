"""Routes: created and deleted, asked whether they would be accepted, and which one answers."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.errors import Conflict, Invalid, Malformed, NotFound
from domain.hosts import covers, normalise_host, slug_host
from domain.names import move_guard
from domain.ports import Reader
from domain.routes import ROUTES_GUARD, RouteCreated, RouteDeleted, route_stream
from domain.routing import Match, Route, RouteSpec, RouteTable, find_conflict, parse_route
from domain.routing.route import METHODS
from domain.scripts import script_stream
from domain.units import ABSENT, Change, Read, Record
from projections.control.app_reads import read_app, read_claims
from projections.control.reads import read_script
from projections.control.route_reads import StoredRoute, page_routes_of_script, read_route, read_routes
from runtime.admin.streams import read_guards
from runtime.admin.writing import Acting, AdminWriter, retried

_PROBE: Final = UUID(int=0)
"""The id of a route that is only asked about."""


class RouteVerdict(msgspec.Struct, frozen=True):
    """Whether a route would be accepted now; if not, why, and what stands in its way."""

    ok: bool
    problem: dict[str, Any] | None = None
    conflicting_route: Route | None = None


class Routes:
    """The routes of all apps."""

    def __init__(self, reader: Reader, writer: AdminWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def page(self, app_id: UUID, script_id: UUID, after: UUID | None, limit: int) -> list[StoredRoute]:
        """A script's routes in the order of their creation. Raises NotFound for an unknown script."""
        await self._require_script(app_id, script_id)
        return await page_routes_of_script(self._reader, app_id, script_id, after, limit)

    async def create(self, app_id: UUID, script_id: UUID, spec: RouteSpec, acting: Acting) -> StoredRoute:
        """Give a script a route.

        Raises NotFound, Malformed `not_an_endpoint` (a module), Invalid naming the field (`reserved_path`, `host_not_claimed`), or Conflict `route_conflict`.
        """
        route = parse_route(uuid7(), script_id, spec)
        return await retried(lambda: self._create(app_id, route, acting))

    async def delete(self, app_id: UUID, route_id: UUID, acting: Acting) -> None:
        """Take a route away. Raises NotFound."""
        await retried(lambda: self._delete(app_id, route_id, acting))

    async def check(self, app_id: UUID, spec: RouteSpec) -> RouteVerdict:
        """Whether a route of some endpoint of this app would be accepted."""
        try:
            route = parse_route(_PROBE, _PROBE, spec)
            await self._require_host(app_id, route)
            await self._require_no_conflict(app_id, route)
        except (Invalid, Conflict) as error:
            problem = {"code": error.code, "detail": error.detail, "field": error.field}
            return RouteVerdict(ok=False, problem=problem, conflicting_route=error.extra.get("conflicting_route"))
        return RouteVerdict(ok=True)

    async def match(self, app_id: UUID, host: str, method: str, path: str) -> Match | None:
        """The route that would answer such a request to this app; None when none would. Raises Invalid naming host, method or path."""
        if method not in METHODS:
            raise Invalid(f"method: expected one of {', '.join(METHODS)}", field="method")
        if "?" in path or "#" in path:
            raise Invalid("path: without query and fragment", field="path")
        table = RouteTable.compile(stored.route for stored in await read_routes(self._reader, app_id))
        return table.match(normalise_host(host), method, path)

    async def _create(self, app_id: UUID, route: Route, acting: Acting) -> StoredRoute:
        (guard,) = await read_guards(self._reader, app_id, ROUTES_GUARD)
        script_version = await self._require_endpoint(app_id, route.script_id)
        await self._require_host(app_id, route)
        await self._require_no_conflict(app_id, route)
        created = Change(Record(name=route_stream(route.id), event=RouteCreated(route=route)), ABSENT)
        events = await self._writer.publish(
            app_id, acting, [created, move_guard(ROUTES_GUARD, guard)], reads=[Read(script_stream(route.script_id), script_version)]
        )
        return StoredRoute(app_id, route, events[0].recorded_at)

    async def _delete(self, app_id: UUID, route_id: UUID, acting: Acting) -> None:
        (guard,) = await read_guards(self._reader, app_id, ROUTES_GUARD)
        found = await read_route(self._reader, app_id, route_id)
        if found is None:
            raise NotFound("there is no such route")
        deleted = Record(name=route_stream(route_id), event=RouteDeleted(route_id=route_id, script_id=found.route.script_id))
        await self._writer.publish(app_id, acting, [Change(deleted), move_guard(ROUTES_GUARD, guard)])

    async def _require_script(self, app_id: UUID, script_id: UUID) -> tuple[str, int]:
        script = await read_script(self._reader, app_id, script_id)
        if script is None:
            raise NotFound("there is no such script")
        return script.kind, script.version

    async def _require_endpoint(self, app_id: UUID, script_id: UUID) -> int:
        """The version of the script's stream, which the route's unit has then read."""
        kind, version = await self._require_script(app_id, script_id)
        if kind == "module":
            raise Malformed("a module cannot have routes; only an endpoint answers requests", code="not_an_endpoint")
        return version

    async def _require_host(self, app_id: UUID, route: Route) -> None:
        if route.host is None:
            return
        app = await read_app(self._reader, app_id)
        if app is None:
            raise NotFound("there is no such app")
        claims = [slug_host(app.slug), *await read_claims(self._reader, app_id)]
        if not any(covers(claim, route.host) for claim in claims):
            raise Invalid(f"host: this app has not claimed {route.host}", field="host", code="host_not_claimed", claimed=claims)

    async def _require_no_conflict(self, app_id: UUID, route: Route) -> None:
        other = find_conflict(route, (stored.route for stored in await read_routes(self._reader, app_id)))
        if other is not None:
            message = f"some requests would fit both this route and {other.path} of script {other.script_id}"
            raise Conflict(message, code="route_conflict", field="path", conflicting_route=other)
