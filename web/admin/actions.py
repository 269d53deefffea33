"""Actions (`{name}:publish`): Litestar's path parameters are whole segments, so one route stands for several operations, told apart by a suffix."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from web.documented import documented_of
from web.problems import MethodNotAllowed


async def acts(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of routes that only act: without one of their suffixes there is no such method. Raises MethodNotAllowed."""
    suffixes = [action.suffix for action in documented_of(handler).actions]
    scope = connection.scope
    if suffixes and not any(scope["path"].endswith(suffix) for suffix in suffixes):
        mine = str(scope.get("method"))
        route = next(each for each in connection.app.routes if each.path_format == scope["path_template"])
        raise MethodNotAllowed(f"nothing is done here by {mine}; there is {', '.join(suffixes)}", allow=sorted({*route.methods} - {mine}))
