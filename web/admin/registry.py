"""The one place where the resources of the control plane are registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from litestar import Router
from litestar.di import Provide

from web.admin import (
    api_keys,
    apps,
    auth,
    chain,
    dead_letters,
    docs,
    domains,
    events,
    executions,
    files,
    kv,
    live,
    members,
    routes,
    scripts,
    secrets,
    sessions,
    settings,
    statistics,
    topics,
    triggers,
    usage,
    users,
)
from web.admin.actions import acts
from web.admin.call import admitted, provide_call
from web.admin.parameters import known_parameters
from web.bodies import JsonBody, JsonRequest

_PREFIX: Final = "/api/v1/admin"

ROUTERS: Final[Sequence[Router]] = (
    auth.router,
    sessions.router,
    users.router,
    api_keys.router,
    apps.router,
    domains.router,
    members.router,
    settings.router,
    usage.router,
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
    chain.router,
    statistics.router,
    live.router,
)


def admin_router() -> Router:
    """The control plane. Each route declares what it needs of its caller (`web.admin.needs`)."""
    return Router(
        path=_PREFIX,
        route_handlers=list(ROUTERS),
        guards=[admitted, acts, known_parameters],
        dependencies={"call": Provide(provide_call)},
        request_class=JsonRequest,
        dto=JsonBody,
        return_dto=None,
    )
