from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec
import pytest

from domain.errors import Invalid
from web.bodies import convert_body


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Inner(msgspec.Struct):
    size: Literal["s", "l"] | None = None


class Shape(msgspec.Struct):
    colour: Colour = Colour.RED
    colours: list[Colour] = []
    inner: Inner | msgspec.UnsetType = msgspec.UNSET
    many: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("body", "field", "taken"),
    [
        ({"colour": "blue"}, "$.colour", "red, green"),
        ({"colour": "x" * 10_000}, "$.colour", "red, green"),
        ({"colours": ["red", "blue"]}, "$.colours[1]", "red, green"),
        ({"inner": {"size": "m"}}, "$.inner.size", "s, l"),
        ({"many": [{}, {"size": "m"}]}, "$.many[1].size", "s, l"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(body: Any, field: str, taken: str) -> None:
    with pytest.raises(Invalid) as refused:
        convert_body(body, Shape)
    assert refused.value.field == field
    assert sorted(str(refused.value).removeprefix(f"{field}: expected one of ").split(", ")) == sorted(taken.split(", "))


def test_what_is_no_word_at_all_is_refused_by_its_type() -> None:
    with pytest.raises(Invalid, match=r"^\$\.colour: Expected `str`, got `int`$"):
        convert_body({"colour": 1}, Shape)
