"""The web application: the control plane on Litestar, and the front before both planes."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from runtime.version import read_version
from web import system
from web.admin.refusals import note_refusal
from web.admin.registry import admin_router
from web.bodies import MAX_CONTROL_BODY_BYTES
from web.core import Core
from web.front import App, Front
from web.problems import problem, translate
from web.requests import request_id_of

_SCHEMA_PATH: Final = "/api/v1/schema"


def build_app(core: Core, data_plane: App) -> Front:
    """The ASGI app of a process. `data_plane` gets whatever is not the control plane's: scripts' routes and direct runs."""
    max_body_bytes = core.settings.http.max_body_bytes
    control = Litestar(
        route_handlers=[system.router, admin_router()],
        state=State({"core": core}),
        openapi_config=_openapi(),
        request_max_body_size=min(max_body_bytes, MAX_CONTROL_BODY_BYTES),
        exception_handlers={Exception: _answer_error},
        logging_config=None,
        debug=False,
    )
    return Front(control, data_plane, core.metrics, max_body_bytes, core.settings.files.max_file_bytes)  # type: ignore[arg-type]  # Litestar's own ASGI types are narrower TypedDicts


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    refusal = translate(error, request_id_of(request.scope))
    note_refusal(request, refusal)
    status, headers, body = problem(refusal)
    named = {name.decode(): value.decode("latin-1") for name, value in headers}
    return Response(body, status_code=status, headers=named, media_type=named.pop("content-type"))


def _openapi() -> OpenAPIConfig:
    """The document alone, no page around it: those load their scripts from elsewhere."""
    bearer = SecurityScheme(type="http", scheme="bearer", description="A session's token (POST /api/v1/admin/auth/login).")
    return OpenAPIConfig(
        title="PiCloud",
        version=read_version().api,
        path=_SCHEMA_PATH,
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        components=Components(security_schemes={"bearer": bearer}),
        security=[{"bearer": []}],
        use_handler_docstrings=True,
    )
