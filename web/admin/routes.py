"""`/routes`: create, list, delete, and two questions: would this route be accepted, and which route answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, post
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from domain.routing import DispatchMode, HostKind, Match, PathKind, RouteSpec
from domain.routing import Route as DomainRoute
from projections.control.route_reads import StoredRoute
from web.admin.call import Call
from web.admin.found import find_route, find_script
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import routes_of
from web.pages import Page, page


class CheckRoute(RouteSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route that somebody thinks of creating. `app_id` takes an id or a slug."""

    app_id: str


class MatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that might come. `path` as it would be sent: percent-encoded, without its query."""

    app_id: str
    host: str
    method: str
    path: str


class RouteItem(msgspec.Struct, frozen=True, kw_only=True):
    """A route."""

    id: UUID
    app_id: UUID
    script_id: UUID
    host_kind: HostKind
    host: str | None
    path_kind: PathKind
    path: str
    method: str | None
    dispatch_mode: DispatchMode
    host_param_name: str | None
    created_at: datetime


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a route would be accepted; if not, why (`code`, `detail`, `field`) and which one stands in its way."""

    ok: bool
    problem: dict[str, Any] | None = None
    conflicting_route: DomainRoute | None = None


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """The route that would answer, and what it would find in the request."""

    route: DomainRoute
    params: dict[str, str]
    rest: str | None
    host_param: str | None


@get("/scripts/{script:str}/routes", opt=needs(Capability.SCRIPTS_READ))
async def list_routes(call: Call, script: Segment, limit: Query = None, cursor: Query = None) -> Page[RouteItem]:
    """A script's routes in the order of their creation."""
    app_id, script_id = await find_script(call, script)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "routes", (UUID,))
    found = await routes_of(call).page(app_id, script_id, after, size + 1)
    return page([_route(route) for route in found], size, lambda route: encode("routes", route.id))


@post("/scripts/{script:str}/routes", opt=needs(Capability.ROUTES_WRITE))
async def create_route(call: Call, script: Segment, data: JSONBody[RouteSpec]) -> RouteItem:
    """Give a script a route. 409 with `conflicting_route`; 422 for a reserved path or an unclaimed host; 400 for a module."""
    app_id, script_id = await find_script(call, script)
    return _route(await routes_of(call).create(app_id, script_id, data, call.acting))


@delete("/routes/{route:str}", opt=needs(Capability.ROUTES_WRITE))
async def delete_route(call: Call, route: Segment) -> None:
    """Take a route away."""
    app_id, route_id = await find_route(call, route)
    await routes_of(call).delete(app_id, route_id, call.acting)


@post("/routes:check", status_code=200, opt=needs(Capability.SCRIPTS_READ))
async def check_route(call: Call, data: JSONBody[CheckRoute]) -> Verdict:
    """Whether this route would be accepted, and if not, why."""
    app = await call.app(data.app_id)
    spec = RouteSpec(**{name: getattr(data, name) for name in RouteSpec.__struct_fields__})
    found = await routes_of(call).check(app.app_id, spec)
    return Verdict(found.ok, found.problem, found.conflicting_route)


@post("/routes:match", status_code=200, opt=needs(Capability.SCRIPTS_READ))
async def match_route(call: Call, data: JSONBody[MatchRequest]) -> Matched | None:
    """Which route would answer such a request; `null` when none would."""
    app = await call.app(data.app_id)
    found = await routes_of(call).match(app.app_id, data.host, data.method, data.path)
    return None if found is None else _matched(found)


def _matched(match: Match) -> Matched:
    return Matched(route=match.route, params=match.params, rest=match.rest, host_param=match.host_param)


def _route(stored: StoredRoute) -> RouteItem:
    return RouteItem(app_id=stored.app_id, created_at=stored.created_at, **msgspec.structs.asdict(stored.route))


router: Final = Router(path="/", route_handlers=[list_routes, create_route, delete_route, check_route, match_route], tags=["routes"])
