"""Things found by their own id, whose app follows from them: looked up, authorised, or missing. What a caller may not see is missing to them."""

from __future__ import annotations

from uuid import UUID

from domain.authz import decide
from domain.errors import NotFound
from domain.ids import NIL_APP
from projections.control.route_reads import app_of_route
from projections.control.views import app_of_script
from web.admin.call import AdminCall
from web.paths import id_segment


async def find_script(call: AdminCall, text: str) -> tuple[UUID, UUID]:
    """The app and id of a script in a path. Raises NotFound, Forbidden."""
    script_id = id_segment(text, "script")
    app_id = await app_of_script(call.core.reader, script_id)
    return _seen(call, "script", app_id), script_id


async def find_route(call: AdminCall, text: str) -> tuple[UUID, UUID]:
    """The app and id of a route in a path. Raises NotFound, Forbidden."""
    route_id = id_segment(text, "route")
    app_id = await app_of_route(call.core.reader, route_id)
    return _seen(call, "route", app_id), route_id


def visible_apps(call: AdminCall) -> list[UUID] | None:
    """The apps in which a caller has what is needed; None is all of them."""
    principal = call.principal
    if principal.bound_app is not None:
        apps = [principal.bound_app]
    elif principal.instance_role in {"owner", "admin"}:
        # Their role is the same in every app, so any id will do to ask.
        return None if _has_all(call, NIL_APP) else []
    else:
        apps = list(principal.app_roles)
    return [app_id for app_id in apps if _has_all(call, app_id)]


def _has_all(call: AdminCall, app_id: UUID) -> bool:
    return all(decide(call.principal, capability, app_id).allowed for capability in call.needs)


def _seen(call: AdminCall, what: str, app_id: UUID | None) -> UUID:
    missing = NotFound(f"there is no such {what}")
    if app_id is None:
        raise missing
    try:
        call.require(app_id)
    except NotFound:
        raise missing from None
    return app_id
