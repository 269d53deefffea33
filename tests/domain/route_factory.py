"""Routes for tests, in one line each."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID

from domain.routing import Route, RouteSpec, parse_route

SCRIPT = UUID(int=7)
_ids = count(1)


def route(path: str, method: str | None = None, *, host: str | None = None, kind: str | None = None, **more: Any) -> Route:
    """A route whose kinds follow from how path and host are written."""
    path_kind: Any = kind or ("prefix" if path.endswith("*") else "param" if "/:" in path else "exact")
    host_kind: Any = "any" if host is None else "wildcard" if host.startswith("*.") else "strict"
    return parse_route(UUID(int=next(_ids)), SCRIPT, RouteSpec(host_kind=host_kind, host=host, path_kind=path_kind, path=path, method=method, **more))
