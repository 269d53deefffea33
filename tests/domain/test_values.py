from __future__ import annotations

import math
from typing import Any

import pytest

from domain.errors import Invalid
from domain.values import MAX_DEPTH, check_json, check_text


def nested(depth: int, inner: Any = 1) -> Any:
    """Lists and dicts in turn around a value."""
    for level in range(depth):
        inner = [inner] if level % 2 else {"k": inner}
    return inner


@pytest.mark.parametrize(
    "value",
    [
        1,
        [10**5000],
        True,
        None,
        1.5,
        "",
        "ä😀",
        [],
        {},
        ["a", "ä"],
        [1, "a", 1.5, None, [], {}],
        {"ä": [{"b": 1.5}]},
        nested(MAX_DEPTH),
        nested(MAX_DEPTH - 1, []),
    ],
)
def test_json_values_pass(value: Any) -> None:
    check_json(value, "f")


@pytest.mark.parametrize(
    "value",
    [
        *("a\x00", "\ud800", "ä\udfff", ["a", "\x00"], ["\ud83d", "\ude00"], [1, "\udc00"], {"\x00": 1}, {"a": {"\ud800": 1}}),
        *(math.nan, math.inf, [1.0, -math.inf], [1, math.nan]),
        *(b"x", (1,), {1: 2}, {None: 1}, [object()], [[], set()]),
        *(nested(MAX_DEPTH + 1), nested(MAX_DEPTH, []), nested(MAX_DEPTH, {}), nested(100_000)),
    ],
)
def test_what_is_no_json_value_is_refused(value: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        check_json(value, "f")
    assert refusal.value.field == "f"


def test_surrogates_are_found_in_long_texts() -> None:
    check_text("ä" * 1_000_000, "f")
    with pytest.raises(Invalid):
        check_text("ä" * 1_000_000 + "\ud800", "f")
