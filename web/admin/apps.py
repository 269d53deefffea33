"""`/apps`: list, create, one."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from litestar import Router, get, post
from litestar.params import JSONBody

from domain.authz import AppRole, Capability, Principal, app_role
from domain.cursors import decode, encode, parse_limit
from domain.errors import NotFound
from projections.control.app_reads import StoredApp, read_app
from web.admin.call import Call
from web.admin.found import visible_apps
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import apps_of
from web.pages import Page, page


class CreateApp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new app. It answers for `<slug>.localhost`."""

    name: str
    slug: str


class App(msgspec.Struct, frozen=True, kw_only=True):
    """An app, and what the caller is in it."""

    id: UUID
    name: str
    slug: str
    created_at: datetime
    my_role: AppRole | None


@get("/apps", opt=needs(Capability.APPS_READ))
async def list_apps(call: Call, limit: Query = None, cursor: Query = None) -> Page[App]:
    """The apps that the caller sees, in the order of their creation."""
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "apps", (UUID,))
    found = await apps_of(call).page(visible_apps(call), after, size + 1)
    return page([_app(app, call.principal) for app in found], size, lambda app: encode("apps", app.id))


@post("/apps", opt=needs(Capability.APPS_CREATE))
async def create_app(call: Call, data: JSONBody[CreateApp]) -> App:
    """Create an app. 409 `slug_taken`."""
    return _app(await apps_of(call).create(data.name, data.slug, call.acting), call.principal)


@get("/apps/{app:str}", operation_id="read_app", opt=needs(Capability.APPS_READ))
async def read_one(call: Call, app: Segment) -> App:
    """One app, by id or slug."""
    row = await call.app(app)
    found = await read_app(call.core.reader, row.app_id)
    if found is None:
        raise NotFound("there is no such app", code="app_not_found")
    return _app(found, call.principal)


def _app(app: StoredApp, principal: Principal) -> App:
    return App(id=app.id, name=app.name, slug=app.slug, created_at=app.created_at, my_role=app_role(principal, app.id))


router: Final = Router(path="/", route_handlers=[list_apps, create_app, read_one], tags=["apps"])
