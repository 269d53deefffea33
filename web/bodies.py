"""JSON request bodies: read once, strictly, into a msgspec Struct.

What is not JSON is 400 `malformed`. JSON of another shape is 422 `invalid`, and `field` is its JSON path (`$.limits.memory_mib`). Nothing is converted on the
way: `"1"` is not a number. NUL, lone surrogates and nesting over 64 levels are refused here, before anything that could stumble over them.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from domain.errors import Invalid, Malformed
from domain.values import check_json

T = TypeVar("T")

_MAX_ECHO_CHARS: Final = 200
_PATH: Final = re.compile(r" - at `([^`]*)`$")
_NAMED: Final = re.compile(r"(?:unknown|required) field `([^`]*)`")


def decode_body(body: bytes, shape: type[T]) -> T:
    """Read a body as `shape`. Raises Malformed or Invalid."""
    value = _parse(body)
    if isinstance(value, dict):
        for key, item in value.items():
            check_json(key, "$")
            check_json(item, _short(f"$.{key}"))
    else:
        check_json(value, "$")
    try:
        return msgspec.convert(value, shape, strict=True)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None


class JsonBody(AbstractDTO[Any]):
    """Lets a handler's `data` go through `decode_body`, and OpenAPI show the Struct as it is. The admin router sets it for all handlers."""

    def decode_bytes(self, value: bytes) -> Any:
        """The handler's `data`."""
        field = self.asgi_connection.route_handler.parsed_data_field
        assert field is not None
        return decode_body(value, field.annotation)

    @classmethod
    def create_for_field_definition(cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None) -> None:
        """No model is derived: the Struct itself is the contract."""

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Reference | Schema:
        """The Struct's own schema."""
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema


def _parse(body: bytes) -> Any:
    if not body:
        raise Malformed("the body is empty; a JSON value is expected")
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise Invalid("$: nested deeper than 64 levels", field="$") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not valid JSON ({error})") from None


def _refusal(message: str) -> Invalid:
    """Msgspec's message as ours: the path first, the name of a missing or unknown field as part of it."""
    found = _PATH.search(message)
    path = found[1] if found else "$"
    named = _NAMED.search(message)
    if named is not None:
        path = f"{path}.{named[1]}"
    path = _short(path)
    return Invalid(f"{path}: {_short(_PATH.sub('', message))}", field=path)


def _short(text: str) -> str:
    """Names are the caller's; a long one is not sent back whole."""
    return text if len(text) <= _MAX_ECHO_CHARS else f"{text[:_MAX_ECHO_CHARS]}…"
