"""Filters and orders as SQL over `documents`: the one place where that is written. It means what `domain.docs.evaluate` does.

Everything that a caller said is a parameter: values, names in paths, cursors. The text of a statement depends on a filter's shape alone. Every condition is
true or false, never NULL, so that NOT is an exact opposite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.docs.evaluate import Place, SortField
from domain.docs.filters import AllOf, AnyOf, Equals, Exists, Filter, HasPrefix, Not, OneOf, Ordered, Path

MAX_INDEXED_VALUES: Final = 32
"""A longer `$in` is not looked up value by value."""

_COMPARE: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_RANK: Final = (
    "CASE jsonb_typeof({value}) WHEN 'null' THEN 1 WHEN 'boolean' THEN 2 WHEN 'number' THEN 3 WHEN 'string' THEN 4 WHEN 'array' THEN 5 WHEN 'object' THEN 6 "
    "ELSE 0 END"
)
_NUMBER: Final = "CASE jsonb_typeof({value}) WHEN 'number' THEN {value}::numeric WHEN 'boolean' THEN {value}::boolean::integer::numeric ELSE 0 END"
_TEXT: Final = """CASE jsonb_typeof({value}) WHEN 'string' THEN {value} #>> '{{}}' ELSE '' END COLLATE "C\""""


class Compiler:
    """Compiles for one statement and gathers its parameters: `$1` is the app, `$2` the collection."""

    def __init__(self, app_id: UUID, collection: str) -> None:
        self._scope = f"{app_id}/{collection}"
        self.args: list[Any] = [app_id, collection]
        self._bound: dict[tuple[Any, str], str] = {}

    def bind(self, value: Any, sql_type: str) -> str:
        """A new parameter."""
        self.args.append(value)
        return f"${len(self.args)}::{sql_type}"

    def condition(self, only: Filter) -> str:
        """The filter as a boolean expression."""
        match only:
            case AllOf(parts):
                return _joined(" AND ", [self.condition(part) for part in parts]) or "TRUE"
            case AnyOf(parts):
                return _joined(" OR ", [self.condition(part) for part in parts])
            case Not(part):
                return f"(NOT {self.condition(part)})"
            case Exists(path):
                return f"({self.value(path)} IS NOT NULL)"
            case _:
                return f"({self._comparison(only)} IS TRUE)"

    def index_condition(self, only: Filter) -> str | None:
        """What holds wherever the filter does and the index can answer; None when there is no such thing."""
        return self._index_condition(only) if _is_indexable(only) else None

    def value(self, path: Path) -> str:
        """The value at a path, NULL where there is none.

        `#>` goes there without copying what it passes, but takes names like `0` for places in arrays, too; `->` with text looks into objects only.
        """
        names = (self._scope, *path)
        if all(name[0].isalpha() for name in path):
            return f"(tree #> {self._once(names, 'text[]')})"
        return f"(tree -> {' -> '.join(self._once(name, 'text') for name in names)})"

    def sort_keys(self, sort: Sequence[SortField]) -> list[tuple[str, bool]]:
        """The three keys of each field, and whether they descend."""
        return [
            (key.format(value=value), field.descending)
            for field, value in [(field, self.value(field.path)) for field in sort]
            for key in (_RANK, _NUMBER, _TEXT)
        ]

    def after(self, keys: Sequence[tuple[str, bool]], place: Place) -> str:
        """Whether a document comes behind a place in the order of these keys and its id."""
        bounds = [bound for key in place.keys for bound in (self.bind(key.rank, "integer"), self._number(key.number), self.bind(key.text, "text"))]
        condition = f"id > {self.bind(place.id, 'text')}"
        for (key, descending), bound in reversed(list(zip(keys, bounds, strict=True))):
            condition = f"({key} {'<' if descending else '>'} {bound} OR ({key} = {bound} AND {condition}))"
        return condition

    def _index_condition(self, only: Filter) -> str:
        match only:
            case Equals(path, value):
                return f"(tree @> {self._nested(path, value)})"
            case OneOf(path, values):
                return _joined(" OR ", [f"tree @> {self._nested(path, value)}" for value in values])
            case AllOf(parts):
                return _joined(" AND ", [self._index_condition(part) for part in parts if _is_indexable(part)])
            case AnyOf(parts):
                return _joined(" OR ", [self._index_condition(part) for part in parts])
            case _:
                raise AssertionError(only)

    def _comparison(self, only: Equals | OneOf | Ordered | HasPrefix) -> str:
        value = self.value(only.path)
        match only:
            case Equals(_, wanted):
                return f"{value} = {self._json(wanted)}"
            case OneOf(_, values):
                return f"{value} = ANY ({self.bind([_text(each) for each in values], 'jsonb[]')})"
            case HasPrefix(_, prefix):
                return f"(jsonb_typeof({value}) = 'string' AND starts_with({value} #>> '{{}}', {self.bind(prefix, 'text')}))"
            case Ordered(_, order, str(bound)):
                text = f"({value} #>> '{{}}') COLLATE \"C\""
                return f"(jsonb_typeof({value}) = 'string' AND {text} {_COMPARE[order]} {self.bind(bound, 'text')})"
            case Ordered(_, order, bound):
                return f"(jsonb_typeof({value}) = 'number' AND {value} {_COMPARE[order]} {self._json(bound)})"

    def _nested(self, path: Path, value: Any) -> str:
        for name in reversed((self._scope, *path)):
            value = {name: value}
        return self._json(value)

    def _json(self, value: Any) -> str:
        return self._once(_text(value), "jsonb")

    def _number(self, number: Any) -> str:
        return f"{self.bind(str(number), 'text')}::numeric"

    def _once(self, value: str | tuple[str, ...], sql_type: str) -> str:
        """The parameter of a value that may be wanted again."""
        key = (value, sql_type)
        if key not in self._bound:
            self._bound[key] = self.bind(value, sql_type)
        return self._bound[key]


def _is_indexable(only: Filter) -> bool:
    match only:
        case Equals(_, value):
            return _has_scalar(value)
        case OneOf(_, values):
            return 0 < len(values) <= MAX_INDEXED_VALUES and all(map(_has_scalar, values))
        case AllOf(parts):
            return any(map(_is_indexable, parts))
        case AnyOf(parts):
            return all(map(_is_indexable, parts))
        case _:
            return False


def _joined(separator: str, parts: Sequence[str]) -> str:
    return f"({separator.join(parts)})" if parts else ""


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _has_scalar(value: Any) -> bool:
    """Whether the index has an entry for it: it has none for what is made of empty objects and arrays only."""
    if isinstance(value, dict):
        return any(map(_has_scalar, value.values()))
    return any(map(_has_scalar, value)) if isinstance(value, list) else True
