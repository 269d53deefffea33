"""The filter language: untrusted JSON becomes a tree of conditions, each of which is true or false of a document's data, never unknown.

A filter is an object. Each name in it is a field, as a dotted path of at most five levels through objects (never into arrays), with the value that it must
equal or an object of operators; `$and`, `$or` and `$not` combine filters. All that stands in one object must hold.

- **Missing is not null.** A missing field equals nothing, so `{"a": null}` and `$eq: null` find documents whose `a` is null; `$exists` tells the two apart.
- **Equality is of whole values**, by JSON type: numbers by their exact value (`1` equals `1.0`), objects whatever the order of their members, arrays element
  by element. `$in` is equality with one of several.
- **`$ne`, `$nin` and `$not` are exact opposites**, so they include documents that lack the field.
- **Ordering** (`$gt $gte $lt $lte`) is between two numbers or two strings, by code point; anything else does not satisfy it. `$prefix` is of strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from domain.errors import Invalid
from domain.values import encode_json

MAX_PATH_LEVELS: Final = 5
MAX_CONDITIONS: Final = 100
MAX_IN_VALUES: Final = 1000
MAX_FILTER_BYTES: Final = 64 * 1024

_FIELD: Final = "filter"
_MAX_ECHO_CHARS: Final = 80

Path = tuple[str, ...]
Order = Literal["$gt", "$gte", "$lt", "$lte"]


class Equals(msgspec.Struct, frozen=True):
    """The field is there and equals the value."""

    path: Path
    value: Any


class OneOf(msgspec.Struct, frozen=True):
    """The field is there and equals one of the values; of none when there are none."""

    path: Path
    values: tuple[Any, ...]


class Ordered(msgspec.Struct, frozen=True):
    """The field is of the bound's type and stands so to it."""

    path: Path
    order: Order
    bound: int | float | str


class Exists(msgspec.Struct, frozen=True):
    """The field is there, perhaps null."""

    path: Path


class HasPrefix(msgspec.Struct, frozen=True):
    """The field is a string that begins so."""

    path: Path
    prefix: str


class AllOf(msgspec.Struct, frozen=True):
    """Every part holds; of no parts, always."""

    parts: tuple[Filter, ...]


class AnyOf(msgspec.Struct, frozen=True):
    """Some part holds."""

    parts: tuple[Filter, ...]


class Not(msgspec.Struct, frozen=True):
    """The part does not hold."""

    part: Filter


Filter = Equals | OneOf | Ordered | Exists | HasPrefix | AllOf | AnyOf | Not

EVERYTHING: Final = AllOf(())


def parse_filter(raw: object) -> Filter:
    """Make a filter of a JSON value. Raises Invalid, with the name of an unknown operator; modifiers (`$sort`) belong to `parse_query`."""
    encode_json(raw, _FIELD, max_bytes=MAX_FILTER_BYTES)
    return _Parser().filter(raw)


def parse_path(name: object, field: str = _FIELD) -> Path:
    """Read a dotted path of one to five names; raises Invalid."""
    if not isinstance(name, str):
        raise Invalid(f"docs: a field's name must be a string, not {type(name).__name__}", field=field)
    parts = tuple(name.split("."))
    if "" in parts:
        raise Invalid(f"docs: {shown(name)} is no field: a name in it is empty", field=field)
    if len(parts) > MAX_PATH_LEVELS:
        raise Invalid(f"docs: {shown(name)} has more than {MAX_PATH_LEVELS} levels", field=field)
    return parts


def shown(name: str) -> str:
    """A caller's name for an error; a long one is not sent back whole."""
    return repr(name if len(name) <= _MAX_ECHO_CHARS else f"{name[:_MAX_ECHO_CHARS]}…")


class _Parser:
    """Counts what it has read, so that no filter becomes a statement without end."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, raw: object) -> Filter:
        if not isinstance(raw, dict):
            raise _refusal(f"a filter must be an object, not {_type(raw)}")
        if not raw:
            return self._counted(EVERYTHING)
        return _all([self._member(name, value) for name, value in raw.items()])

    def _member(self, name: str, value: Any) -> Filter:
        if not name.startswith("$"):
            return self._field(parse_path(name), value)
        match name:
            case "$and":
                return AllOf(self._filters(name, value))
            case "$or":
                return AnyOf(self._filters(name, value))
            case "$not":
                return Not(self.filter(value))
            case _:
                raise _refusal(f"unknown operator {shown(name)}")

    def _filters(self, name: str, value: Any) -> tuple[Filter, ...]:
        if not isinstance(value, list) or not value:
            raise _refusal(f"{name} takes a list of at least one filter")
        return tuple(self.filter(part) for part in value)

    def _field(self, path: Path, value: Any) -> Filter:
        if isinstance(value, dict) and any(name.startswith("$") for name in value):
            return _all([self._operator(path, name, operand) for name, operand in value.items()])
        return self._counted(Equals(path, value))

    def _operator(self, path: Path, name: str, operand: Any) -> Filter:
        if name == "$not":
            if not isinstance(operand, dict) or not any(inner.startswith("$") for inner in operand):
                raise _refusal("$not takes an object of operators")
            return Not(self._field(path, operand))
        make = _OPERATORS.get(name)
        if make is None:
            raise _refusal(f"unknown operator {shown(name)}" if name.startswith("$") else f"{shown(name)} stands among operators")
        return self._counted(make(path, name, operand))

    def _counted(self, condition: Filter) -> Filter:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise _refusal(f"more than {MAX_CONDITIONS} conditions")
        return condition


def _all(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _one_of(path: Path, name: str, operand: Any) -> OneOf:
    if not isinstance(operand, list):
        raise _refusal(f"{name} takes a list, not {_type(operand)}")
    if len(operand) > MAX_IN_VALUES:
        raise _refusal(f"{name} takes at most {MAX_IN_VALUES} values")
    return OneOf(path, tuple(operand))


def _ordered(path: Path, name: Any, operand: Any) -> Ordered:
    if isinstance(operand, bool) or not isinstance(operand, int | float | str):
        raise _refusal(f"{name} takes a number or a string, not {_type(operand)}")
    return Ordered(path, name, operand)


def _exists(path: Path, name: str, operand: Any) -> Filter:
    if not isinstance(operand, bool):
        raise _refusal(f"{name} takes true or false, not {_type(operand)}")
    return Exists(path) if operand else Not(Exists(path))


def _prefix(path: Path, name: str, operand: Any) -> HasPrefix:
    if not isinstance(operand, str):
        raise _refusal(f"{name} takes a string, not {_type(operand)}")
    return HasPrefix(path, operand)


_OPERATORS: Final[dict[str, Callable[[Path, str, Any], Filter]]] = {
    "$eq": lambda path, _, operand: Equals(path, operand),
    "$ne": lambda path, _, operand: Not(Equals(path, operand)),
    "$in": _one_of,
    "$nin": lambda path, name, operand: Not(_one_of(path, name, operand)),
    "$gt": _ordered,
    "$gte": _ordered,
    "$lt": _ordered,
    "$lte": _ordered,
    "$exists": _exists,
    "$prefix": _prefix,
}


def _type(value: object) -> str:
    """The JSON type of a value, for messages."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _refusal(why: str) -> Invalid:
    return Invalid(f"docs: {why}", field=_FIELD)
