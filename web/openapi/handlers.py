"""The facts of each operation, read off the handlers that Litestar has registered."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Method
from litestar.typing import FieldDefinition
from litestar.utils import get_enum_string_value

from web.admin.needs import needs_of
from web.admin.parameters import query_fields
from web.documented import Action, Answer, documented_of
from web.openapi.facts import Facts
from web.uploads import is_upload

_METHODS: Final[Sequence[Method]] = ("GET", "POST", "PUT", "PATCH", "DELETE")
_JSON: Final = "application/json"
_NOT_SUMMARY: Final = (". ", ": ", "; ")


def operations(app: Litestar) -> Iterator[Facts]:
    """Every operation of the control plane and the system, in the order of registration; what Litestar adds by itself (OPTIONS) and what is hidden left out."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method in _METHODS:
                handler, _ = route.route_handler_map.get(method, (None, None))
                if handler is not None and handler.resolve_include_in_schema():
                    yield from _of_handler(route, method, handler)


def tags(app: Litestar) -> dict[str, str]:
    """The tags in use, each with what the first module that has it says of itself."""
    found: dict[str, str] = {}
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, _ in route.route_handler_map.values():
                for tag in handler.resolve_tags() if handler.resolve_include_in_schema() else ():
                    found.setdefault(tag, (sys.modules[handler.fn.__module__].__doc__ or "").strip())
    return found


def _of_handler(route: HTTPRoute, method: str, handler: HTTPRouteHandler) -> Iterator[Facts]:
    own = documented_of(handler)
    summary, description = _said(handler)
    data = handler.parsed_data_field
    query = query_fields(handler)
    facts = Facts(
        method=method,
        path=route.path_format,
        id=str(handler.operation_id or handler.fn.__name__),
        tag=next(iter(handler.resolve_tags()), "other"),
        summary=summary,
        description=description,
        needs=needs_of(handler),
        path_names=[each.name for each in route.path_components if not isinstance(each, str)],
        path_extra={name: extra for name, field in handler.parsed_fn_signature.parameters.items() if (extra := _extra(field))},
        query={name: _extra(field) for name, field in query.items()},
        required_query=frozenset(name for name, field in query.items() if field.is_required),
        request_headers=own.request_headers,
        body=None if data is None else data.annotation,
        is_upload=is_upload(method, route.path_format),
        answers={**_success(handler), **own.answers},
        problems=own.problems,
    )
    yield from (_acted(facts, action) for action in own.actions) if own.actions else (facts,)


def _acted(facts: Facts, action: Action) -> Facts:
    return msgspec.structs.replace(
        facts,
        id=action.id,
        path=facts.path + action.suffix,
        summary=action.summary,
        description="",
        body=facts.body if action.body is None else action.body,
        answers=facts.answers if action.answers is None else action.answers,
        needs=facts.needs if action.needs is None else action.needs,
    )


def _success(handler: HTTPRouteHandler) -> dict[int, Answer]:
    """The answer that the signature tells."""
    returned: FieldDefinition = handler.parsed_return_field
    shape: Any = returned.annotation
    if returned.is_subclass_of(Response):
        shape = returned.inner_types[0].annotation if returned.inner_types else bytes
    if shape in {None, type(None)}:
        return {handler.status_code: Answer(description="Done.")}
    media_type = get_enum_string_value(handler.media_type or _JSON).partition(";")[0]
    is_json = media_type == _JSON and _is_described(shape)
    return {handler.status_code: Answer(description="", shape=shape if is_json else None, media_type=media_type)}


def _is_described(shape: Any) -> bool:
    """Whether msgspec knows the type; an ASGI app, for one, is none."""
    try:
        return not isinstance(msgspec.inspect.type_info(shape), msgspec.inspect.CustomType)
    except TypeError:
        return False


def _said(handler: HTTPRouteHandler) -> tuple[str, str]:
    """The docstring's first sentence, and all of it if there is more."""
    text = " ".join((handler.fn.__doc__ or "").split())
    end = min((found for mark in _NOT_SUMMARY if (found := text.find(mark)) > 0), default=-1)
    return (text.rstrip("."), "") if end < 0 else (text[:end], text)


def _extra(field: FieldDefinition) -> Mapping[str, Any]:
    return getattr(field.kwarg_definition, "schema_extra", None) or {}
