"""The filter language: what it refuses, and what it means."""

from __future__ import annotations

from typing import Any

import pytest

from domain.docs import matches, parse_filter
from domain.docs.evaluate import SortField, in_order, place_of, same
from domain.docs.queries import next_cursor, parse_query
from domain.errors import Invalid

BIG = 2**53 + 1


@pytest.mark.parametrize(
    ("raw", "data", "holds"),
    [
        ({}, {}, True),
        ({"tier": "gold"}, {"tier": "gold"}, True),
        ({"tier": "gold"}, {"tier": "Gold"}, False),
        ({"tier": "gold"}, {}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        # numbers
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": 1}, {"n": "1"}, False),
        ({"n": BIG}, {"n": float(BIG)}, False),
        ({"n": {"$gt": float(2**53)}}, {"n": BIG}, True),
        ({"n": 10**23}, {"n": 1e23}, True),
        ({"n": 0.1}, {"n": 0.1}, True),
        ({"n": 0}, {"n": -0.0}, True),
        ({"n": {"$gte": 18}}, {"n": 18}, True),
        ({"n": {"$gt": 18}}, {"n": 18}, False),
        ({"n": {"$gt": 9}}, {"n": 10}, True),
        ({"n": {"$gt": 9}}, {"n": "A"}, False),
        ({"n": {"$lt": 9}}, {"n": False}, False),
        ({"n": {"$lt": 9}}, {"n": None}, False),
        ({"n": {"$gte": 1, "$lt": 5}}, {"n": 5}, False),
        # strings, by code point
        ({"s": {"$gt": "Z"}}, {"s": "a"}, True),
        ({"s": {"$gt": "\uffff"}}, {"s": "\U00010000"}, True),
        ({"s": {"$lt": ""}}, {"s": ""}, False),
        ({"s": {"$lte": ""}}, {"s": ""}, True),
        ({"s": {"$prefix": "ab"}}, {"s": "abc"}, True),
        ({"s": {"$prefix": "a%"}}, {"s": "abc"}, False),
        ({"s": {"$prefix": ""}}, {"s": ""}, True),
        ({"s": {"$prefix": ""}}, {}, False),
        # null and missing
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": {"$exists": True}}, {"a": None}, True),
        ({"a": {"$exists": False}}, {}, True),
        ({"a.b": {"$exists": False}}, {"a": 1}, True),
        ({"a": {"$ne": 1}}, {}, True),
        ({"a": {"$ne": 1}}, {"a": "1"}, True),
        ({"a": {"$ne": 1}}, {"a": 1.0}, False),
        ({"a": {"$nin": [1, 2]}}, {}, True),
        ({"a": {"$in": [None]}}, {}, False),
        ({"a": {"$in": []}}, {"a": 1}, False),
        ({"a": {"$nin": []}}, {"a": 1}, True),
        ({"a": {"$in": [1, "x"]}}, {"a": "x"}, True),
        ({"a": {"$not": {"$gt": 5}}}, {}, True),
        ({"a": {"$not": {"$gt": 5}}}, {"a": 6}, False),
        # whole values
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": 1}, {"a": [1]}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2.0, "x": 1}}, True),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, False),
        ({"a": {}}, {"a": {}}, True),
        ({"a": {"$eq": {"$x": 1}}}, {"a": {"$x": 1}}, True),
        # paths
        ({"a.b.c.d.e": 1}, {"a": {"b": {"c": {"d": {"e": 1}}}}}, True),
        ({"a.0": 1}, {"a": [1]}, False),
        ({"a.0": 1}, {"a": {"0": 1}}, True),
        # combinations
        ({"$or": [{"a": 1}, {"b": 1}]}, {"b": 1}, True),
        ({"$and": [{"a": 1}, {"b": 1}]}, {"b": 1}, False),
        ({"$not": {"a": 1}}, {"a": 1}, False),
        ({"$not": {}}, {}, False),
        ({"$or": [{"a": 1}, {"b": 1}], "c": 1}, {"b": 1}, False),
    ],
)
def test_a_filter_holds_or_does_not(raw: Any, data: Any, holds: object) -> None:
    assert matches(parse_filter(raw), data) is holds


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (None, "a filter must be an object, not null"),
        ([], "a filter must be an object, not an array"),
        ({"$foo": 1}, "unknown operator '$foo'"),
        ({"a": {"$foo": 1}}, "unknown operator '$foo'"),
        ({"a": {"$" + "x" * 100: 1}}, "unknown operator '$" + "x" * 79 + "…'"),
        ({"a": {"$gt": 1, "b": 2}}, "'b' stands among operators"),
        ({"a": {"$gt": None}}, "$gt takes a number or a string, not null"),
        ({"a": {"$gt": True}}, "$gt takes a number or a string, not a boolean"),
        ({"a": {"$lte": [1]}}, "$lte takes a number or a string, not an array"),
        ({"a": {"$in": 1}}, "$in takes a list, not a number"),
        ({"a": {"$nin": {}}}, "$nin takes a list, not an object"),
        ({"a": {"$in": [1] * 1001}}, "$in takes at most 1000 values"),
        ({"a": {"$exists": 1}}, "$exists takes true or false, not a number"),
        ({"a": {"$prefix": 1}}, "$prefix takes a string, not a number"),
        ({"a": {"$not": 1}}, "$not takes an object of operators"),
        ({"a": {"$not": {"b": 1}}}, "$not takes an object of operators"),
        ({"$not": [{"a": 1}]}, "a filter must be an object, not an array"),
        ({"$and": {}}, "$and takes a list of at least one filter"),
        ({"$or": []}, "$or takes a list of at least one filter"),
        ({"$or": [1]}, "a filter must be an object, not a number"),
        ({"": 1}, "'' is no field: a name in it is empty"),
        ({"a..b": 1}, "'a..b' is no field: a name in it is empty"),
        ({"a.b.c.d.e.f": 1}, "'a.b.c.d.e.f' has more than 5 levels"),
        ({f"f{number}": 1 for number in range(101)}, "more than 100 conditions"),
        ({"$or": [{}] * 101}, "more than 100 conditions"),
        ({"$sort": "a"}, "unknown operator '$sort'"),
    ],
)
def test_what_is_no_filter_is_refused(raw: Any, why: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_filter(raw)
    assert (refusal.value.detail, refusal.value.field) == (f"docs: {why}", "filter")


@pytest.mark.parametrize("raw", [{"a": float("nan")}, {"a\x00": 1}, {"a": "\ud800"}, {"a": b"x"}])
def test_what_is_no_json_is_refused(raw: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_filter(raw)
    assert refusal.value.field == "filter"


def test_size_is_bounded() -> None:
    with pytest.raises(Invalid, match="at most 65536"):
        parse_filter({"a": "x" * 65536})


def test_depth_is_bounded() -> None:
    deep: Any = {"a": 1}
    for _ in range(100):
        deep = {"$not": deep}
    with pytest.raises(Invalid, match="deeper"):
        parse_filter(deep)


@pytest.mark.parametrize(
    ("modifiers", "field"),
    [
        ({"$sort": 1}, "$sort"),
        ({"$sort": {"a": 2}}, "$sort"),
        ({"$sort": {"a": True}}, "$sort"),
        ({"$sort": {"a": "asc"}}, "$sort"),
        ({"$sort": ""}, "$sort"),
        ({"$sort": "a.b.c.d.e.f"}, "$sort"),
        ({"$sort": [["a"]]}, "$sort"),
        ({"$sort": ["a"] * 9}, "$sort"),
        ({"$limit": 0}, "$limit"),
        ({"$limit": 1001}, "$limit"),
        ({"$limit": True}, "$limit"),
        ({"$limit": None}, "$limit"),
        ({"$limit": "1"}, "$limit"),
        ({"$cursor": 1}, "$cursor"),
        ({"$cursor": "x"}, "$cursor"),
        ({"$cursor": "\x00"}, "filter"),
        ({"$cursor": {"id": "a"}}, "$cursor"),
        ({"$cursor": {"id": "", "data": {}}}, "$cursor"),
        ({"$cursor": {"id": 1, "data": {}}}, "$cursor"),
        ({"$cursor": next_cursor((SortField(("a",)),), "d", {"a": 1})}, "$cursor"),
        ({"$sort": "a", "$cursor": next_cursor((), "d", {})}, "$cursor"),
    ],
)
def test_bad_modifiers_are_refused(modifiers: Any, field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_query(modifiers)
    assert refusal.value.field == field


def test_sorts_can_be_written_in_three_ways() -> None:
    assert parse_query({"$sort": "a.b"}).sort == (SortField(("a", "b")),)
    assert parse_query({"$sort": {"b": -1, "a": 1}}).sort == (SortField(("b",), descending=True), SortField(("a",)))
    assert parse_query({"$sort": ["a", {"b": -1}]}).sort == (SortField(("a",)), SortField(("b",), descending=True))


def test_values_are_ordered_by_type_then_by_value_then_by_id() -> None:
    values: list[Any] = [None, False, True, -1, 0.5, 2**60, 10.0**30, "", "A", "a", "é", "\uffff", "\U00010000", [], {}]
    rows = [("x", {}), *((f"i{number}", {"v": value}) for number, value in enumerate(values))]
    assert ordered(rows, descending=False) == [doc_id for doc_id, _ in rows]
    assert ordered(rows, descending=True) == [doc_id for doc_id, _ in reversed(rows)]
    ties = [("b", {"v": 1}), ("a", {"v": 1.0}), ("c", {"v": 1})]
    assert ordered(ties, descending=True) == ["a", "b", "c"]


def ordered(rows: list[tuple[str, Any]], *, descending: bool) -> list[str]:
    sort = (SortField(("v",), descending=descending),)
    places = [place_of(sort, doc_id, data) for doc_id, data in rows[::2] + rows[1::2]]
    return [place.id for place in sorted(places, key=in_order(sort))]


@pytest.mark.parametrize("value", [None, True, 2**70, 1.5, "é", [1], {"a": 1}])
def test_a_cursor_is_the_place_of_its_document(value: Any) -> None:
    sort = (SortField(("v",)), SortField(("w",), descending=True))
    data = {"v": value}
    text = next_cursor(sort, "d", data)
    query = {"$sort": {"v": 1, "w": -1}}
    assert parse_query({**query, "$cursor": text}).after == parse_query({**query, "$cursor": {"id": "d", "data": data}}).after == place_of(sort, "d", data)


def test_equality_is_deep_and_typed() -> None:
    assert same([{"a": [1, 2.0]}], [{"a": [1.0, 2]}])
    assert not same([True], [1])
    assert not same({"a": None}, {})
    assert not same("1", 1)
