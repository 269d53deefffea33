"""JSON values as PiCloud stores them: checked once where they enter, then carried as canonical bytes.

Refused, because a store or a reader further on would have to: NaN and infinities, NUL and lone surrogates in strings (PostgreSQL's text takes neither),
depth over 64, and whatever is not JSON. Integers of any size pass.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from domain.errors import Invalid

MAX_DEPTH: Final = 64

_SCALARS: Final = (bool, int, type(None))


def check_text(text: str, field: str) -> None:
    """Raise Invalid when PostgreSQL's text or UTF-8 cannot carry `text`."""
    if "\x00" in text:
        raise Invalid(f"{field}: NUL characters are not accepted", field=field)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise Invalid(f"{field}: lone surrogates are not accepted", field=field)


def check_json(value: Any, field: str, *, max_depth: int = MAX_DEPTH) -> None:
    """Raise Invalid when `value` is not a JSON value that PiCloud can store. Iterative: depth cannot exhaust the stack."""
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, str):
            check_text(item, field)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise Invalid(f"{field}: NaN and infinities are not JSON", field=field)
        elif isinstance(item, _SCALARS):
            continue
        elif depth > max_depth:
            raise Invalid(f"{field}: nested deeper than {max_depth} levels", field=field)
        elif isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    raise Invalid(f"{field}: object keys must be strings, not {type(key).__name__}", field=field)
                check_text(key, field)
            todo.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            todo.extend((child, depth + 1) for child in item)
        else:
            raise Invalid(f"{field}: {type(item).__name__} is not a JSON value", field=field)


def encode_json(value: Any, field: str, *, max_bytes: int) -> bytes:
    """Check and encode a value; raises Invalid naming `field`."""
    check_json(value, field)
    encoded = msgspec.json.encode(value)
    if len(encoded) > max_bytes:
        raise Invalid(f"{field}: {len(encoded)} bytes of JSON, at most {max_bytes} are accepted", field=field)
    return encoded


def decode_json(data: bytes | str, field: str, *, max_bytes: int) -> Any:
    """Parse untrusted JSON text and check it; raises Invalid naming `field`."""
    if len(data) > max_bytes:
        raise Invalid(f"{field}: {len(data)} bytes of JSON, at most {max_bytes} are accepted", field=field)
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid(f"{field}: not valid JSON ({error})", field=field) from error
    check_json(value, field)
    return value
