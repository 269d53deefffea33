"""Calls of the control plane that were refused to their callers, for the log of access."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Request

from domain.access import Reason
from domain.errors import Forbidden, NotFound, PiCloudError, Unauthenticated
from runtime.access.identity import Identity
from runtime.access.log import Refusal
from web.admin.call import AdminCall
from web.admin.needs import declares
from web.core import Core
from web.requests import address_of, request_id_of
from web.security import credential_of


def note_refusal(request: Request[Any, Any, Any], error: PiCloudError) -> None:
    """Note an error if it refuses the call to whoever made it: a 404 does when the thing is there, a 401 when a credential was shown."""
    scope: Mapping[str, Any] = request.scope
    if "route_handler" not in scope or not declares(request.route_handler):  # no route matched, or none that is refused to anybody
        return
    call: AdminCall | None = request.state.get("call")
    reason = _reason(request, call, error)
    if reason is None:
        return
    identity: Identity | None = request.state.get("identity")
    denied = None if call is None else call.denied
    core: Core = request.app.state.core
    core.access.refused(
        Refusal(
            reason=reason,
            code=error.code,
            actor="public" if identity is None else identity.principal.actor,
            user_id=None if identity is None else identity.user.id,
            address=address_of(scope),
            method=scope["method"],
            route=scope["path_template"],
            capability=error.extra.get("capability") if denied is None else denied.capability,
            app_id=None if denied is None else denied.app_id,
            request_id=request_id_of(scope),
        )
    )


def _reason(request: Request[Any, Any, Any], call: AdminCall | None, error: PiCloudError) -> Reason | None:
    if isinstance(error, Unauthenticated):
        return None if credential_of(request.scope) is None else "bad_credential"
    if isinstance(error, Forbidden):
        return "forbidden"
    if isinstance(error, NotFound) and call is not None and call.denied is not None:
        return "not_visible"
    return None
