"""How handlers declare parameters. All are text: `domain.cursors` and `web.paths` read them, so that every refusal is ours and names the field.

What texts they take is told by `web.openapi.parameters` for each name; a route with another idea of a name says so in `QueryParameter(schema_extra=...)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.typing import FieldDefinition
from litestar.utils.signature import ParsedSignature

from domain.errors import Invalid
from domain.ids import parse_uuid
from domain.values import check_text

_MAX_ECHO_CHARS: Final = 100

Query = FromQuery[str | None]
"""`limit: Query = None`."""
Segment = FromPath[str]
"""`app: Segment`, of a path like `/apps/{app:str}`."""


def flag(text: str | None, field: str) -> bool:
    """Read `true` or `false`; not given is false. Raises Invalid naming the field."""
    if text not in {None, "true", "false"}:
        raise Invalid(f"{field}: expected true or false", field=field)
    return text == "true"


def id_parameter(text: str | None, field: str) -> UUID | None:
    """Read an id to filter by. Raises Invalid naming the field."""
    if text is None:
        return None
    found = parse_uuid(text)
    if found is None:
        raise Invalid(f"{field}: expected an id, as in 018f3c6e-7b1a-7c3d-8e4f-0123456789ab", field=field)
    return found


def text_parameter(text: str, field: str) -> str:
    """Read any text to filter by. Raises Invalid naming the field for what no stored text can be."""
    check_text(text, field)
    return text


async def known_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard that refuses what a route does not read: a filter that is misspelt would else let everything pass. Raises Invalid naming the parameter."""
    if not connection.scope.get("query_string"):
        return
    known, seen = query_fields(handler), set[str]()
    for name, _ in connection.query_params.multi_items():
        short = name[:_MAX_ECHO_CHARS]
        if name not in known:
            raise Invalid(f"{short}: unknown query parameter; {_listed(known)}", field=short)
        if name in seen:
            raise Invalid(f"{short}: stands more than once", field=short)
        seen.add(name)


@lru_cache(maxsize=1024)
def query_fields(handler: BaseRouteHandler) -> dict[str, FieldDefinition]:
    """The query parameters of a route by their names in the URL, those of its dependencies included."""
    return dict(_query_fields(handler, handler.parsed_fn_signature))


def _listed(names: Collection[str]) -> str:
    return f"there are {', '.join(sorted(names))}" if names else "there are none"


def _query_fields(handler: BaseRouteHandler, signature: ParsedSignature) -> Iterator[tuple[str, FieldDefinition]]:
    providers = handler.resolve_dependencies()
    for name, field in signature.parameters.items():
        declared = field.kwarg_definition
        if name in providers:
            yield from _query_fields(handler, providers[name].parsed_fn_signature)
        elif isinstance(declared, QueryParameter):
            yield declared.name or name, field
