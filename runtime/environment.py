"""A tree of frozen Structs, read from environment variables. Each field declares its variable once, with description, bounds and default."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from domain.errors import Invalid

PREFIX: Final = "PICLOUD_"

_UNITS: Final = {"_s": "seconds", "_ms": "milliseconds", "_days": "days", "_bytes": "bytes", "_mib": "MiB"}

T = TypeVar("T", bound=msgspec.Struct)


class Secret:
    """A text that does not show itself in a repr, a message or a log: whoever needs it says `.value`."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash((Secret, self.value))


class Address(msgspec.Struct, frozen=True):
    """Where a server listens. `str` gives what `parse` takes; port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `127.0.0.1:8000`, `name:8000` or `[::1]:8000`; raises ValueError."""
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not host.strip("[]") or (":" in host) != bracketed or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError(text)
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Variable(msgspec.Struct, frozen=True):
    """One variable as people read of it. `path` is its field (`pg.pool_max`)."""

    name: str
    path: str
    expected: str
    default: str
    description: str


def variable(name: str, description: str, *, expected: str | None = None, default: str | None = None, **bounds: Any) -> msgspec.Meta:
    """Declare a field's variable. `bounds` are those of `msgspec.Meta`; `expected` and `default` are said instead of what type, bounds and default say."""
    return msgspec.Meta(description=description, extra={"name": name, "expected": expected, "default": default}, **bounds)


def read(tree: type[T], environment: Mapping[str, str]) -> T:
    """Fill `tree`; an empty variable counts as absent. Raises Invalid naming the variable that is unknown or malformed, and what was expected."""
    known = [item.name for item in describe(tree)]
    for name in environment:
        if name.startswith(PREFIX) and name not in known:
            raise Invalid(f"{name} is not a setting of PiCloud{_suggest(name, known)}", field=name)
    return _fill(tree, environment)


def describe(tree: type[msgspec.Struct], path: str = "") -> tuple[Variable, ...]:
    """All variables of `tree` in the order of their declaration."""
    return tuple(_describe(tree, path))


def render(variables: tuple[Variable, ...], *, markdown: bool = False) -> str:
    """The variables as a text for a terminal, or as a Markdown table."""
    if not markdown:
        return "\n".join(f"  {item.name} ({item.expected}; default: {item.default})\n      {item.description}" for item in variables)
    rows = [f"| `{item.name}` | {item.expected} | {item.default} | {item.description} |" for item in variables]
    return "\n".join(["| variable | value | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _fill(tree: type[T], environment: Mapping[str, str]) -> T:
    values: dict[str, Any] = {}
    for field in fields(tree):
        if _is_tree(field.type):
            values[field.name] = _fill(field.type, environment)
        elif text := environment.get(_said(field)["name"]):
            values[field.name] = _parse(field, text)
    return tree(**values)


def _parse(field: FieldInfo, text: str) -> Any:
    """Raises Invalid; a secret's text stands nowhere in it."""
    plain, meta = _plain(field.type), _meta(field)
    try:
        if plain is Address:
            return Address.parse(text)
        if plain is Path or plain is Secret:
            return plain(msgspec.convert(text, Annotated[str, meta]))
        value = [part.strip() for part in text.split(",")] if get_origin(plain) is tuple else text
        return msgspec.convert(value, Annotated[plain, meta], strict=False)
    except (ValueError, msgspec.ValidationError):
        name = _said(field)["name"]
        shown = "" if plain is Secret else f", not {text!r}"
        raise Invalid(f"{name}: expected {_expected(field)}{shown}", field=name) from None


def _describe(tree: type[msgspec.Struct], path: str) -> Iterator[Variable]:
    for field in fields(tree):
        inner = f"{path}{field.name}"
        if _is_tree(field.type):
            yield from _describe(field.type, f"{inner}.")
        else:
            said = _said(field)
            yield Variable(said["name"], inner, _expected(field), said["default"] or _default(field), _meta(field).description or "")


def _meta(field: FieldInfo) -> msgspec.Meta:
    return next(part for part in field.type.__metadata__ if isinstance(part, msgspec.Meta))


def _said(field: FieldInfo) -> dict[str, Any]:
    """What `variable` was told beside the bounds."""
    return _meta(field).extra or {}


def _is_tree(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, msgspec.Struct) and declared is not Address


def _plain(declared: Any) -> Any:
    """The type itself, without its metadata and without None."""
    if get_origin(declared) is Annotated:
        return _plain(get_args(declared)[0])
    if get_origin(declared) in {Union, UnionType}:
        return next(part for part in get_args(declared) if part is not NoneType)
    return declared


def _expected(field: FieldInfo) -> str:
    said: str | None = _said(field)["expected"]
    plain = _plain(field.type)
    if said is not None:
        return said
    if get_origin(plain) is tuple:
        return "a comma-separated list of " + ", ".join(get_args(get_args(plain)[0]))
    if get_origin(plain) is Literal:
        return "one of " + ", ".join(get_args(plain))
    if plain in {int, float}:
        unit = next((f" of {unit}" for suffix, unit in _UNITS.items() if field.name.endswith(suffix)), "")
        return f"{'a whole number' if plain is int else 'a number'}{unit} from {_meta(field).ge} to {_meta(field).le}"
    return {Path: "a path", Address: "host:port"}.get(plain, "a text")


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "none"
    if isinstance(field.default, float):
        return f"{field.default:g}"
    return ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else "; `picloud serve --help` shows them all"
