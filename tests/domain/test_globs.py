"""Globs: what may be written, and that looking up by candidates finds what matching directly finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.globs import candidates, check_glob, check_topic_pattern, matches, pattern_key, topic_candidates


@pytest.mark.parametrize("text", ["*", "a*", "a", "orders.*", "ü" * 64 + "*", "a" * 128 + "*"])
def test_glob_accepts(text: str) -> None:
    check_glob(text, "collection_glob")


@pytest.mark.parametrize("text", ["", "**", "a**", "a*b", "*a", "\x00", "a\ud800*", "a" * 130, "ü" * 65])
def test_glob_refuses(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_glob(text, "collection_glob")
    assert refused.value.field == "collection_glob"


@pytest.mark.parametrize("text", ["*", "orders", "orders.*", "orders.eu.*", "orders."])
def test_topic_pattern_accepts(text: str) -> None:
    check_topic_pattern(text, "topic_pattern")


@pytest.mark.parametrize("text", ["", "orders*", "*.orders", "orders.*.new", ".*", "**", "a" * 259, "\x00.*"])
def test_topic_pattern_refuses(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_topic_pattern(text, "topic_pattern")
    assert refused.value.field == "topic_pattern"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("*", "", True),
        ("*", "a*", True),
        ("a*", "a", True),
        ("a*", "a*", True),
        ("a*", "abc", True),
        ("a*", "ba", False),
        ("a", "a", True),
        ("a", "A", False),
        ("a", "ab", False),
        ("orders.*", "orders.new", True),
        ("orders.*", "orders.eu.new", True),
        ("orders.*", "orders", False),
        ("orders.*", "ordersnew", False),
    ],
)
def test_matches(text: str, name: str, *, expected: bool) -> None:
    assert matches(pattern_key(text), name) is expected


def test_a_name_with_a_star_is_not_a_prefix() -> None:
    assert pattern_key("a*") == "p:a"
    assert candidates("a*") == ["e:a*", "p:", "p:a", "p:a*"]
    assert "e:a*" not in candidates("ab")
    assert topic_candidates("a.b.c") == ["e:a.b.c", "p:", "p:a.", "p:a.b."]


names = st.text(alphabet="ab.*ü:%_", max_size=8)


def direct(text: str, name: str) -> bool:
    return name.startswith(text.removesuffix("*")) if text.endswith("*") else text == name


@given(names, names)
def test_candidates_are_the_globs_that_match(text: str, name: str) -> None:
    try:
        check_glob(text, "glob")
    except Invalid:
        return
    found = pattern_key(text) in candidates(name)
    assert found == direct(text, name) == matches(pattern_key(text), name)


@given(names, names)
def test_topic_candidates_are_the_patterns_that_match(text: str, name: str) -> None:
    try:
        check_topic_pattern(text, "pattern")
    except Invalid:
        return
    assert (pattern_key(text) in topic_candidates(name)) == direct(text, name)


@given(names)
def test_every_name_finds_its_own_prefixes(name: str) -> None:
    keys = candidates(name)
    assert len(keys) == len(set(keys)) == len(name) + 2
    assert all(matches(key, name) for key in keys)
    assert all(matches(key, name) for key in topic_candidates(name))
