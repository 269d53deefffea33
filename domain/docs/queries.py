"""Queries: a filter with its modifiers `$sort`, `$limit` and `$cursor`.

`$sort` is a field, an object of fields with 1 or -1, or a list of these. Every order ends with the id, so pages are stable. `$cursor` says after which
document to go on: an object with the `id` and `data` of the last document of the page before, which need not exist any more, or a text that `next_cursor` made.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain import cursors
from domain.docs.evaluate import MISSING, Place, SortField, place_of, sort_key, value_at
from domain.docs.events import check_id
from domain.docs.filters import Filter, parse_filter, parse_path, shown
from domain.errors import Invalid
from domain.values import check_json

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
MAX_SORT_FIELDS: Final = 8

_CURSOR: Final = "docs_find"
_MODIFIERS: Final = ("$sort", "$limit", "$cursor")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to find, in which order, how many, and after which place."""

    only: Filter
    sort: tuple[SortField, ...] = ()
    limit: int = DEFAULT_LIMIT
    after: Place | None = None


def parse_query(raw: object) -> Query:
    """Make a query of a JSON value. Raises Invalid naming `filter` or the modifier."""
    if not isinstance(raw, dict):
        return Query(only=parse_filter(raw))
    check_json(raw, "filter")
    sort = _sort(raw.get("$sort", []))
    return Query(
        only=parse_filter({name: value for name, value in raw.items() if name not in _MODIFIERS}),
        sort=sort,
        limit=_limit(raw.get("$limit", DEFAULT_LIMIT)),
        after=_after(raw.get("$cursor"), sort),
    )


def next_cursor(sort: tuple[SortField, ...], doc_id: str, data: Any) -> str:
    """A text to go on from after a document. Raises Invalid when what it is sorted by is too long for one."""
    values = [value_at(data, field.path) for field in sort]
    return cursors.encode(_CURSOR, doc_id, [[] if value is MISSING else [_outline(value)] for value in values])


def _sort(raw: Any) -> tuple[SortField, ...]:
    fields = [field for part in (raw if isinstance(raw, list) else [raw]) for field in _sort_part(part)]
    if len(fields) > MAX_SORT_FIELDS:
        raise _refusal("$sort", f"at most {MAX_SORT_FIELDS} fields")
    return tuple(fields)


def _sort_part(part: Any) -> list[SortField]:
    if isinstance(part, str):
        return [_sort_field(part, 1)]
    if isinstance(part, dict):
        return [_sort_field(name, direction) for name, direction in part.items()]
    raise _refusal("$sort", "takes a field, an object of fields with 1 or -1, or a list of these")


def _sort_field(name: str, direction: object) -> SortField:
    if isinstance(direction, bool) or not isinstance(direction, int) or direction not in {1, -1}:
        raise _refusal("$sort", f"the direction of {shown(name)} must be 1 or -1")
    return SortField(parse_path(name, "$sort"), descending=direction == -1)


def _limit(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= MAX_LIMIT:
        raise _refusal("$limit", f"must be 1 to {MAX_LIMIT}")
    return raw


def _after(raw: object, sort: tuple[SortField, ...]) -> Place | None:
    match raw:
        case None:
            return None
        case str():
            return _after_text(raw, sort)
        case {"id": doc_id, "data": dict(data)}:
            return place_of(sort, check_id(doc_id, "$cursor"), data)
        case _:
            raise _refusal("$cursor", "takes the last document of the page before, or a next_cursor")


def _after_text(text: str, sort: tuple[SortField, ...]) -> Place:
    try:
        doc_id, values = cursors.decode(text, _CURSOR, (str, list[list[Any]]))
    except Invalid as error:
        raise Invalid(f"docs: $cursor: {error.detail.removeprefix('cursor: ')}", field="$cursor") from error
    if len(values) != len(sort) or any(len(value) > 1 for value in values):
        raise _refusal("$cursor", "is of another $sort")
    return Place(tuple(sort_key(value[0] if value else MISSING) for value in values), check_id(doc_id, "$cursor"))


def _outline(value: Any) -> Any:
    """As much of a value as its place depends on."""
    return type(value)() if isinstance(value, dict | list) else value


def _refusal(field: str, why: str) -> Invalid:
    return Invalid(f"docs: {field} {why}", field=field)
