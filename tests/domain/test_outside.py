"""Answers of the outside world are given again as long as a re-run asks the same."""

from __future__ import annotations

from typing import Any

from domain.sandbox import Call
from runtime.outside import MAX_KEPT_BYTES, Kept, Outside


def get(url: Any) -> Call:
    return Call("http_request", ("GET", url))


def ask(outside: Outside, call: Call, value: Any = None, *, size: int = 1, error: Exception | None = None) -> Any:
    """What a call is answered: what was kept, or else `value`, which is kept."""
    kept = outside.again(call)
    if kept is not None:
        return kept.error or kept.value
    outside.keep(Kept(call, value, error), size)
    return error or value


def test_the_nth_answer_is_given_again_while_the_calls_are_equal() -> None:
    outside = Outside()
    outside.begin()
    assert [ask(outside, get("a"), 1), ask(outside, get("a"), 2), ask(outside, get("b"), 3)] == [1, 2, 3]
    outside.begin()
    assert [ask(outside, get("a"), 4), ask(outside, get("a"), 5), ask(outside, get("b"), 6)] == [1, 2, 3]


def test_from_the_first_other_call_on_everything_is_asked_anew() -> None:
    outside = Outside()
    for url, value in (("a", 1), ("b", 2), ("c", 3)):
        ask(outside, get(url), value)
    outside.begin()
    assert [ask(outside, get("a"), 4), ask(outside, get("x"), 5), ask(outside, get("c"), 6)] == [1, 5, 6]
    outside.begin()
    assert [ask(outside, get("a"), 7), ask(outside, get("x"), 8), ask(outside, get("c"), 9)] == [1, 5, 6]


def test_a_run_that_was_broken_off_leaves_the_answers_that_it_did_not_come_to() -> None:
    outside = Outside()
    ask(outside, get("a"), 1)
    ask(outside, get("b"), 2)
    outside.begin()
    ask(outside, get("a"), 3)
    outside.begin()
    assert [ask(outside, get("a"), 4), ask(outside, get("b"), 5)] == [1, 2]


def test_errors_are_answers() -> None:
    outside = Outside()
    error = RuntimeError("http: timed out")
    ask(outside, get("a"), error=error)
    outside.begin()
    assert ask(outside, get("a"), 1) is error


def test_calls_are_numbered_alike_in_every_run() -> None:
    outside = Outside()
    numbers = []
    for _ in range(2):
        outside.begin()
        for url in ("a", "b", "c"):
            numbers.append(outside.number)
            ask(outside, get(url), size=MAX_KEPT_BYTES if url == "b" else 1)
    assert numbers == [0, 1, 2, 0, 1, 2]


def test_what_is_kept_is_bounded_and_nothing_after_it_moves_up() -> None:
    outside = Outside()
    assert [ask(outside, get("a"), 1), ask(outside, get("b"), 2, size=MAX_KEPT_BYTES), ask(outside, get("c"), 3)] == [1, 2, 3]
    outside.begin()
    assert [ask(outside, get("a"), 4), ask(outside, get("c"), 5), ask(outside, get("c"), 6)] == [1, 5, 6]


def test_arguments_nested_deeper_than_can_be_compared_are_other_ones() -> None:
    def deep() -> list[Any]:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]
        return nested

    outside = Outside()
    ask(outside, get(deep()), 1)
    outside.begin()
    assert ask(outside, get(deep()), 2) == 2
