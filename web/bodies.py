"""JSON request bodies: read once, strictly, into a msgspec Struct.

What is not JSON is 400 `malformed`. JSON of another shape is 422 `invalid`, and `field` is its JSON path (`$.limits.memory_mib`). Nothing is converted on the
way: `"1"` is not a number. NUL, lone surrogates and nesting over 64 levels are refused here, before anything that could stumble over them. A long body is read
in a thread: 2 MiB of JSON can take a second, in which nobody else would be served.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from domain.errors import Invalid, Malformed
from domain.values import check_json
from runtime.offloop import off_loop
from web.choices import choices

T = TypeVar("T")

MAX_CONTROL_BODY_BYTES: Final = 2 * 1024 * 1024
"""Nothing that the control plane takes is larger than a value of 1 MiB."""
_MAX_ECHO_CHARS: Final = 200
_PATH: Final = re.compile(r" - at `([^`]*)`$")
_ENUM: Final = "Invalid enum value"
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
    return convert_body(value, shape)


def convert_body(value: Any, shape: type[T]) -> T:
    """Read a JSON value that was checked already as `shape`. Raises Invalid."""
    try:
        return msgspec.convert(value, shape, strict=True)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), shape) from None


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body is decoded as soon as it is read, because Litestar's decoders cannot wait for a thread."""

    decoded: Any = msgspec.UNSET

    async def body(self) -> bytes:
        """See the base class. Raises Malformed or Invalid for what the handler's `data` cannot be."""
        body = await super().body()
        field = self.route_handler.parsed_data_field
        if body and field is not None and self.decoded is msgspec.UNSET:
            self.decoded = await off_loop(len(body), lambda: decode_body(body, field.annotation))
        return body


class JsonBody(AbstractDTO[Any]):
    """Makes what `JsonRequest` decoded a handler's `data`, and lets OpenAPI show the Struct as it is. The admin router sets both for all handlers."""

    def decode_bytes(self, value: bytes) -> Any:
        """The handler's `data`."""
        del value
        request = self.asgi_connection
        assert isinstance(request, JsonRequest)
        assert request.decoded is not msgspec.UNSET
        return request.decoded

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


def _refusal(message: str, shape: Any) -> Invalid:
    """Msgspec's message as ours: the path first, the name of a missing or unknown field as part of it, and of a few words all that are taken."""
    found = _PATH.search(message)
    path = found[1] if found else "$"
    named = _NAMED.search(message)
    if named is not None:
        path = f"{path}.{named[1]}"
    taken = choices(shape, path) if message.startswith(_ENUM) else []
    path = _short(path)
    said = f"expected one of {', '.join(taken)}" if taken else _short(_PATH.sub("", message))
    return Invalid(f"{path}: {said}", field=path)


def _short(text: str) -> str:
    """Names are the caller's; a long one is not sent back whole."""
    return text if len(text) <= _MAX_ECHO_CHARS else f"{text[:_MAX_ECHO_CHARS]}…"
