"""The web application: the control plane on Litestar, and the front before both planes."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State

from web import schema, system
from web.admin.refusals import note_refusal
from web.admin.registry import admin_router
from web.bodies import MAX_CONTROL_BODY_BYTES
from web.core import Core
from web.front import App, Front
from web.problems import MethodNotAllowed, problem, translate
from web.requests import is_options, request_id_of


def routers() -> list[Router]:
    """Everything that the control plane and the system answer."""
    return [system.router, schema.router, admin_router()]


def build_app(core: Core, data_plane: App) -> Front:
    """The ASGI app of a process. `data_plane` gets whatever is not the control plane's: scripts' routes and direct runs."""
    return before(control_plane(core), core, data_plane)


def control_plane(core: Core) -> Litestar:
    """The control plane, whose handlers find `core` in its state. To make it takes longer than anything that it is asked."""
    return Litestar(
        route_handlers=routers(),
        state=State({"core": core}),
        openapi_config=None,
        request_max_body_size=min(core.settings.http.max_body_bytes, MAX_CONTROL_BODY_BYTES),
        exception_handlers={Exception: _answer_error},
        logging_config=None,
        debug=False,
    )


def before(control: Litestar, core: Core, data_plane: App) -> Front:
    """The front before both planes."""
    settings = core.settings
    return Front(control, data_plane, core.metrics, settings.http.max_body_bytes, settings.files.max_file_bytes)  # type: ignore[arg-type]  # Litestar's own ASGI types are narrower TypedDicts


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    refusal = translate(error, request_id_of(request.scope))
    if isinstance(refusal, MethodNotAllowed) and is_options(request.scope):
        return Response(b"", status_code=204, headers={"allow": ", ".join(sorted(refusal.extra["allow"]))})
    note_refusal(request, refusal)
    status, headers, body = problem(refusal)
    named = {name.decode(): value.decode("latin-1") for name, value in headers}
    return Response(body, status_code=status, headers=named, media_type=named.pop("content-type"))
