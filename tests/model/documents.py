"""Random documents and random queries that meet each other: few names, and values chosen to be mistaken for one another."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "0", "é", "$x", "")
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 10, 9, 1.0, -0.0, 0.5, 0.1, 1e16, 1e22, 10**22, 1e23, 10**23, 5e-324, 1.7976931348623157e308),
    *(2**53, 2**53 + 1, float(2**53), -(2**63), 2**64, 10**40, 123456789.123456789),
    *("", "0", "1", "10", "9", "a", "A", "Z", "a%", "a_", "ab", "\\", '"', "'", "null", "é", "e\u0301", "ß", "\uffff", "\U00010000", "\U0001f600", "a\nb"),
    *(
        [],
        {},
        [[]],
        [None],
        [1],
        [1.0],
        [1, 2],
        [2, 1],
        ["a"],
        ["a", "b"],
        {"a": 1},
        {"a": 1.0},
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {"a": {}},
        [{"a": 1}],
        {"0": 1},
    ),
)

scalars = st.one_of(
    st.sampled_from(NASTY), st.integers(-3, 3), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text("abé\U00010000%", max_size=3)
)
json_values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)), max_leaves=6
)
documents = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4)

paths = st.lists(st.sampled_from(["a", "b", "0", "é", "x"]), min_size=1, max_size=3).map(".".join)
bounds = scalars.filter(lambda value: isinstance(value, int | float | str) and not isinstance(value, bool))


def _operators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.just("$not"), inner, min_size=1, max_size=1)


operators = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "$eq": json_values,
            "$ne": json_values,
            "$gt": bounds,
            "$gte": bounds,
            "$lt": bounds,
            "$lte": bounds,
            "$in": st.lists(json_values, max_size=4),
            "$nin": st.lists(json_values, max_size=4),
            "$exists": st.booleans(),
            "$prefix": st.text("aé%_", max_size=2),
        },
    ).filter(bool),
    _operators,
    max_leaves=2,
)
literals = json_values.filter(lambda value: not isinstance(value, dict) or not any(name.startswith("$") for name in value))
fields = st.dictionaries(paths, st.one_of(literals, operators), max_size=2)


def _combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional={"$and": several, "$or": several, "$not": inner})


filters = st.recursive(fields, lambda inner: st.builds(lambda one, other: {**one, **other}, fields, _combined(inner)), max_leaves=4)
sorts = st.lists(st.tuples(paths, st.sampled_from([1, -1])), max_size=2).map(lambda pairs: [{path: direction} for path, direction in pairs])
