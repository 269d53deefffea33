"""What a field takes when that is one of a few words, for refusals that say so."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from msgspec import inspect

_STEP: Final = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")


def choices(shape: Any, path: str) -> list[str]:
    """The words that the field at a JSON path takes; none where other things are taken."""
    kinds = [_kind(shape)]
    for step in _STEP.finditer(path):
        kinds = [inner for kind in kinds for inner in _inside(kind, step[1])]
    return [word for kind in kinds for word in _words(kind)]


@lru_cache(maxsize=256)
def _kind(shape: Any) -> inspect.Type:
    return inspect.type_info(shape)


def _inside(kind: inspect.Type, name: str | None) -> list[inspect.Type]:
    match kind:
        case inspect.UnionType():
            return [inner for each in kind.types for inner in _inside(each, name)]
        case inspect.StructType():
            return [field.type for field in kind.fields if field.encode_name == name]
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return [kind.item_type]
        case _:
            return []


def _words(kind: inspect.Type) -> list[str]:
    match kind:
        case inspect.UnionType():
            return [word for each in kind.types for word in _words(each)]
        case inspect.EnumType():
            return [str(member.value) for member in kind.cls]
        case inspect.LiteralType():
            return [str(value) for value in kind.values]
        case _:
            return []
