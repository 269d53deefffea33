"""The one place where the resources of the control plane are registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from litestar import Router
from litestar.di import Provide

from web.admin import apps, auth, dead_letters, docs, events, executions, files, kv, routes, scripts, secrets, topics, triggers
from web.admin.call import authenticated, provide_call
from web.bodies import JsonBody, JsonRequest

_PREFIX: Final = "/api/v1/admin"

ROUTERS: Final[Sequence[Router]] = (
    apps.router,
    scripts.router,
    routes.router,
    triggers.router,
    dead_letters.router,
    kv.router,
    docs.router,
    secrets.router,
    files.router,
    topics.router,
    events.router,
    executions.router,
)
"""Everything that takes an authenticated caller."""


def admin_router() -> Router:
    """The control plane. `auth` brings its own guards: login has none."""
    guarded = Router(path="/", route_handlers=list(ROUTERS), guards=[authenticated])
    return Router(
        path=_PREFIX,
        route_handlers=[auth.router, guarded],
        dependencies={"call": Provide(provide_call)},
        request_class=JsonRequest,
        dto=JsonBody,
        return_dto=None,
    )
