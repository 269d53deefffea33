"""Filters and orders in plain Python, as the SQL of `projections.docs` means them too: for what a run has not yet committed, and for live documents.

Numbers are compared by the exact value of their JSON text, as PostgreSQL's `numeric` does. A float is the decimal that is written for it, not the binary
fraction next to that: otherwise `1e23` would not equal 100000000000000000000000.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cmp_to_key
from operator import ge, gt, le, lt
from typing import Any, Final

import msgspec

from domain.docs.filters import AllOf, AnyOf, Equals, Exists, Filter, HasPrefix, Not, OneOf, Ordered, Path

MISSING: Final = object()

_COMPARE: Final = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}
_RANKS: Final = {type(None): 1, bool: 2, int: 3, float: 3, str: 4, list: 5, dict: 6}
_NUMBER: Final = 3
_STRING: Final = 4


class SortField(msgspec.Struct, frozen=True):
    """A field to sort by."""

    path: Path
    descending: bool = False


class SortKey(msgspec.Struct, frozen=True, order=True):
    """Where a value stands: by type (missing, null, boolean, number, string, array, object), then numbers and booleans by value, strings by code point.

    Arrays stand together, and so do objects.
    """

    rank: int
    number: int | Decimal = 0
    text: str = ""


class Place(msgspec.Struct, frozen=True):
    """A document's place in an order: a key for each field, then its id."""

    keys: tuple[SortKey, ...]
    id: str


def value_at(data: Any, path: Path) -> Any:
    """The value at a path through objects, `MISSING` where there is none."""
    for name in path:
        if not isinstance(data, dict) or name not in data:
            return MISSING
        data = data[name]
    return data


def matches(condition: Filter, data: Any) -> bool:
    """Whether a filter holds for a document's data."""
    match condition:
        case AllOf(parts):
            return all(matches(part, data) for part in parts)
        case AnyOf(parts):
            return any(matches(part, data) for part in parts)
        case Not(part):
            return not matches(part, data)
        case Exists(path):
            return value_at(data, path) is not MISSING
        case _:
            return _holds(condition, value_at(data, condition.path))


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal: of one type, and equal as a whole."""
    if _rank(left) != _rank(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[name]) for name, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if _rank(left) == _NUMBER:
        return exact(left) == exact(right)
    return bool(left == right)


def exact(number: int | float) -> int | Decimal:
    """The exact value of a number's JSON text."""
    return Decimal(repr(number)) if isinstance(number, float) else number


def sort_key(value: Any) -> SortKey:
    """The key of a value, which may be `MISSING`."""
    if value is MISSING:
        return SortKey(0)
    rank = _rank(value)
    if rank == _STRING:
        return SortKey(rank, 0, value)
    return SortKey(rank, exact(value) if isinstance(value, int | float) else 0)


def place_of(sort: Sequence[SortField], doc_id: str, data: Any) -> Place:
    """Where a document stands."""
    return Place(tuple(sort_key(value_at(data, field.path)) for field in sort), doc_id)


def compare_places(sort: Sequence[SortField], left: Place, right: Place) -> int:
    """Negative when the first comes first, 0 for one place. Ids ascend, whatever the fields do."""
    for field, one, other in zip(sort, left.keys, right.keys, strict=True):
        if one != other:
            return -1 if (one < other) is not field.descending else 1
    return (left.id > right.id) - (left.id < right.id)


def in_order(sort: Sequence[SortField]) -> Any:
    """A `key` for `sorted` over places."""
    return cmp_to_key(lambda left, right: compare_places(sort, left, right))


def _holds(condition: Equals | OneOf | Ordered | HasPrefix, value: Any) -> bool:
    match condition:
        case _ if value is MISSING:
            return False
        case Equals(_, wanted):
            return same(value, wanted)
        case OneOf(_, values):
            return any(same(value, wanted) for wanted in values)
        case HasPrefix(_, prefix):
            return isinstance(value, str) and value.startswith(prefix)
        case Ordered(_, order, bound):
            left, right = sort_key(value), sort_key(bound)
            return left.rank == right.rank and bool(_COMPARE[order](left, right))


def _rank(value: Any) -> int:
    return _RANKS[type(value)]
