"""`/apps`: list, create, change, delete, and whether a slug is to be had."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.params import JSONBody

from domain.authz import AppRole, Capability, app_role, decide
from domain.cursors import decode, encode, parse_limit
from domain.errors import NotFound
from projections.control.app_reads import StoredApp, read_app
from runtime.admin.apps import SlugVerdict
from web.admin.call import AdminCall, Call
from web.admin.found import visible_apps
from web.admin.needs import needs
from web.admin.parameters import Query, Segment, flag
from web.admin.services import app_deletion_of, apps_of
from web.pages import Page, page


class CreateApp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new app. It answers for `<slug>.localhost`. With `takeover` the slug may be an old one of another app, which is not found by it any more then."""

    name: str
    slug: str
    takeover: bool = False


class ChangeApp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different. `takeover` as for a new app; an app takes its own old slugs back without it."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    slug: str | msgspec.UnsetType = msgspec.UNSET
    takeover: bool = False


class CheckSlug(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A slug that somebody thinks of."""

    slug: str


class App(msgspec.Struct, frozen=True, kw_only=True):
    """An app, and what the caller is in it. `old_slugs`, by which it is still found, the oldest first, are shown to its admins."""

    id: UUID
    name: str
    slug: str
    created_at: datetime
    my_role: AppRole | None
    old_slugs: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


@get("/apps", opt=needs(Capability.APPS_READ))
async def list_apps(call: Call, limit: Query = None, cursor: Query = None) -> Page[App]:
    """The apps that the caller sees, in the order of their creation."""
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "apps", (UUID,))
    found = await apps_of(call).page(visible_apps(call), after, size + 1)
    return page([_app(app, call) for app in found], size, lambda app: encode("apps", app.id))


@post("/apps", opt=needs(Capability.APPS_CREATE))
async def create_app(call: Call, data: JSONBody[CreateApp]) -> App:
    """Create an app. 409 `slug_taken`, or `slug_in_history` for another app's old slug without `takeover`."""
    return _app(await apps_of(call).create(data.name, data.slug, call.acting, takeover=data.takeover), call)


@get("/apps/{app:str}", operation_id="read_app", opt=needs(Capability.APPS_READ))
async def read_one(call: Call, app: Segment) -> App:
    """One app, by id or slug. 308 from an old slug, here and everywhere below."""
    row = await call.app(app)
    found = await read_app(call.core.reader, row.app_id)
    if found is None:
        raise NotFound("there is no such app", code="app_not_found")
    return _app(found, call)


@patch("/apps/{app:str}", opt=needs(Capability.APPS_MANAGE))
async def change_app(call: Call, app: Segment, data: JSONBody[ChangeApp]) -> App:
    """Give an app another name or slug; by its old slug it is still found. 409 as for a new app, `host_in_use` while routes name the old slug's host."""
    found = await call.app(app)
    name, slug = (None if value is msgspec.UNSET else value for value in (data.name, data.slug))
    return _app(await apps_of(call).change(found.app_id, name, slug, call.acting, takeover=data.takeover), call)


@delete("/apps/{app:str}", opt=needs(Capability.APPS_MANAGE))
async def delete_app(call: Call, app: Segment, force: Query = None) -> None:
    """Delete an app with all that it has; its log stays, for the instance's owners. 409 `app_has_scripts` with `script_count`, unless `?force=true`."""
    found = await call.app(app)
    await app_deletion_of(call).delete(found.app_id, call.acting, force=flag(force, "force"))


@post("/apps/{app:str}/slug:check", status_code=200, opt=needs(Capability.APPS_MANAGE))
async def check_slug(call: Call, app: Segment, data: JSONBody[CheckSlug]) -> SlugVerdict:
    """Whether the app could go by this slug now; if not, why, and whether it could be taken over."""
    found = await call.app(app)
    return await apps_of(call).check_slug(found.app_id, data.slug)


def _app(app: StoredApp, call: AdminCall) -> App:
    is_admin = decide(call.principal, Capability.APPS_MANAGE, app.id).allowed
    return App(
        id=app.id,
        name=app.name,
        slug=app.slug,
        created_at=app.created_at,
        my_role=app_role(call.principal, app.id),
        old_slugs=app.old_slugs if is_admin else msgspec.UNSET,
    )


router: Final = Router(path="/", route_handlers=[list_apps, create_app, read_one, change_app, delete_app, check_slug], tags=["apps"])
