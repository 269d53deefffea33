"""A route: which requests of an app one script answers, and how."""

from __future__ import annotations

import re
from typing import Final, Literal, NoReturn
from uuid import UUID

import msgspec

from domain.errors import Invalid
from domain.hosts import parse_exact_host, parse_wildcard_host
from domain.routing.paths import PathKind, PathPattern, check_path, parse_path

HostKind = Literal["any", "strict", "wildcard"]
DispatchMode = Literal["sync", "async", "durable"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_HOST_PARAM_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class RouteSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller asks for, decoded but not yet checked."""

    host_kind: HostKind = "any"
    host: str | None = None
    path_kind: PathKind = "exact"
    path: str
    method: str | None = None
    dispatch_mode: DispatchMode = "sync"
    host_param_name: str | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A checked route.

    `host` is canonical: a name for `strict`, `*.name` for `wildcard`, None for `any`. `path` is as its author wrote it, percent-encoding included.
    `method` None is any method. `host_param_name` is the parameter that receives what a wildcard stood for.
    """

    id: UUID
    script_id: UUID
    host_kind: HostKind
    host: str | None
    path_kind: PathKind
    path: str
    method: str | None
    dispatch_mode: DispatchMode
    host_param_name: str | None = None


def parse_route(route_id: UUID, script_id: UUID, spec: RouteSpec) -> Route:
    """Check what an untrusted caller asks for. Raises Invalid naming the field; code `reserved_path` where the platform's own paths lie."""
    pattern = parse_path(spec.path_kind, spec.path)
    check_path(pattern, spec.path_kind, spec.path)
    _check_host_param(spec, pattern)
    return Route(
        id=route_id,
        script_id=script_id,
        host_kind=spec.host_kind,
        host=_parse_host(spec),
        path_kind=spec.path_kind,
        path=spec.path,
        method=_parse_method(spec.method),
        dispatch_mode=spec.dispatch_mode,
        host_param_name=spec.host_param_name,
    )


def _parse_host(spec: RouteSpec) -> str | None:
    if spec.host_kind == "any":
        if spec.host is not None:
            _refuse("host", "host_kind any takes no host")
        return None
    if spec.host is None:
        _refuse("host", f"host_kind {spec.host_kind} needs one")
    return (parse_exact_host if spec.host_kind == "strict" else parse_wildcard_host)(spec.host, "host")


def _parse_method(method: str | None) -> str | None:
    if method is None:
        return None
    # Only ASCII is folded: other letters could otherwise become one of these names.
    if not method.isascii() or method.upper() not in METHODS:
        _refuse("method", f"expected one of {', '.join(METHODS)}, or none for any")
    return method.upper()


def _check_host_param(spec: RouteSpec, pattern: PathPattern) -> None:
    name = spec.host_param_name
    if name is None:
        return
    if spec.host_kind != "wildcard":
        _refuse("host_param_name", "only a wildcard host captures something")
    if _HOST_PARAM_NAME.fullmatch(name) is None:
        _refuse("host_param_name", "expected 1 to 64 letters, digits, '_' and '-', not starting with a digit or '-'")
    if name in (taken for _, taken in pattern.names):
        _refuse("host_param_name", "the path has a parameter of this name")


def _refuse(field: str, why: str) -> NoReturn:
    raise Invalid(f"{field}: {why}", field=field)
