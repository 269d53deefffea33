"""JSON values as PiCloud stores them: checked once where they enter, then carried as canonical bytes.

Refused, because a store or a reader further on would have to: NaN and infinities, NUL and lone surrogates in strings (PostgreSQL's text takes neither),
depth over 64, and whatever is not JSON. Integers of any size pass.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final

import msgspec

from domain.errors import Invalid

MAX_DEPTH: Final = 64

_PLAIN: Final = frozenset({bool, int, type(None)})
_STRINGS: Final = {str}


def check_text(text: str, field: str) -> None:
    """Raise Invalid when PostgreSQL's text or UTF-8 cannot carry `text`."""
    if "\x00" in text:
        raise Invalid(f"{field}: NUL characters are not accepted", field=field)
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{field}: lone surrogates are not accepted", field=field) from None


def check_bounded_text(text: object, field: str, max_bytes: int, what: str) -> str:
    """Text of 1 to `max_bytes` bytes of UTF-8 without NUL; raises Invalid, which calls it `what`."""
    if not isinstance(text, str):
        raise Invalid(f"{what} must be a string, not {type(text).__name__}", field=field)
    check_text(text, field)
    if not 0 < len(text.encode()) <= max_bytes:
        raise Invalid(f"{what} must have 1 to {max_bytes} bytes, not {len(text.encode())}", field=field)
    return text


def check_json(value: Any, field: str, *, max_depth: int = MAX_DEPTH) -> None:
    """Raise Invalid when `value` is not a JSON value that PiCloud can store. Level by level: depth cannot exhaust the stack."""
    level = _check_items((value,), field)
    depth = 1
    while level:
        if depth > max_depth:
            raise Invalid(f"{field}: nested deeper than {max_depth} levels", field=field)
        deeper: list[Any] = []
        for container in level:
            if not container:
                continue
            if isinstance(container, dict):
                _check_keys(container, field)
                deeper += _check_items(container.values(), field)
            else:
                deeper += _check_items(container, field)
        level = deeper
        depth += 1


def _check_keys(keys: Collection[Any], field: str) -> None:
    for key in keys:
        if not isinstance(key, str):
            raise Invalid(f"{field}: object keys must be strings, not {type(key).__name__}", field=field)
    check_text("".join(keys), field)


def _check_items(items: Collection[Any], field: str) -> list[Any]:
    """Check the scalars among the items; returns the lists and dicts. A flat list of one type costs no step of the interpreter for each item."""
    kinds = set(map(type, items))
    if kinds <= _PLAIN:
        return []
    if kinds == _STRINGS:
        check_text("".join(items), field)
        return []
    return [item for item in items if not (type(item) in _PLAIN or _is_scalar(item, field))]


def _is_scalar(item: Any, field: str) -> bool:
    """Whether it is a good scalar; False for a list or dict. Raises Invalid for everything else."""
    if isinstance(item, str):
        check_text(item, field)
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise Invalid(f"{field}: NaN and infinities are not JSON", field=field)
    elif isinstance(item, dict | list):
        return False
    elif not isinstance(item, int):
        raise Invalid(f"{field}: {type(item).__name__} is not a JSON value", field=field)
    return True


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
