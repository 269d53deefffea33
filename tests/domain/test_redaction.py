"""What a run has read of secrets is not in what is kept of it."""

from __future__ import annotations

import base64
import json
from time import perf_counter
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sandbox import LogLine, Reply, RunResult, ScriptError
from runtime.redaction import Revealed

SECRET = 'p4ss/"wörd"\n&+'


def having(*values: str) -> Revealed:
    revealed = Revealed()
    for value in values:
        revealed.add(value)
    return revealed


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        json.dumps({"a": [SECRET]}),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        quote(SECRET),
        quote(SECRET, safe=""),
        urlencode({"q": SECRET}),
        SECRET.encode().hex(),
        *(base64.b64encode(before + SECRET.encode() + after).decode() for before in (b"", b"u:", b"user:", b"x") for after in (b"", b"z", b"zz")),
        base64.urlsafe_b64encode(b"user:" + SECRET.encode()).decode(),
    ],
)
def test_every_form_is_replaced(text: str) -> None:
    cleaned = having(SECRET).text(f"before {text} after")
    assert "***" in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    assert "p4ss" not in cleaned
    assert base64.b64encode(SECRET.encode())[4:-6].decode() not in cleaned


@given(st.text(min_size=4, max_size=40), st.text(max_size=10), st.binary(max_size=5))
def test_no_value_survives(value: str, around: str, before: bytes) -> None:
    revealed = having(value)
    cleaned = revealed.text(around + value + around)
    assert value not in cleaned or value in "***"
    assert revealed.raw(before + value.encode()).count(b"***") >= 1


def test_values_within_values_leave_nothing_of_the_longer() -> None:
    assert having("secret", "secret-and-more").text("secret-and-more, secret") == "***, ***"


def test_short_values_are_left() -> None:
    revealed = having("abc", "")
    assert not revealed
    assert revealed.text("abc") == "abc"


@pytest.mark.parametrize("kept", range(4, 13))
def test_a_value_that_a_limit_has_cut_is_replaced(kept: int) -> None:
    revealed = having("secret-value")
    assert revealed.cut_text("a sec se" + "secret-value"[:kept]) == "a sec se***"
    assert revealed.cut_text("secret-values") == "***s"
    assert revealed.cut_text("ends in sec") == "ends in sec"


def test_only_what_a_limit_may_have_cut_is_looked_at_for_the_beginning_of_one() -> None:
    logs = tuple(LogLine("print", message) for message in ("a sec se", "ends in secr", "a sec se"))
    kept = having("secret-value").result(RunResult(ending="raised", logs=(*logs, LogLine("print", "ends in secr"))), with_reply=False)
    assert [line.message for line in kept.logs] == ["a sec se", "ends in secr", "a sec se", "ends in ***"]


@pytest.mark.alone
def test_values_that_begin_alike_cost_no_more_than_their_length() -> None:
    revealed = having(*("a" * 16_000 + f'b{number}"' for number in range(20)))
    logs = tuple(LogLine("print", "a" * 8_000 + "c") for _ in range(8))
    began = perf_counter()
    revealed.result(RunResult(ending="raised", logs=logs, error=ScriptError("ValueError", "a" * 4096)), with_reply=False)
    assert perf_counter() - began < 1.0


def test_data_keeps_its_shape() -> None:
    value: Any = {"a secret": [1, None, True, 1.5, ("x secret", b"secret\xff")], "n": 123456}
    assert having("secret", "123456").data(value) == {"a ***": [1, None, True, 1.5, ("x ***", b"***\xff")], "n": "***"}


def test_deep_data_is_no_trouble() -> None:
    value: Any = "secret"
    for _ in range(5000):
        value = [value]
    assert "secret" not in str(having("secret").data(value))


def test_a_result_keeps_nothing_and_a_waiting_caller_gets_the_answer() -> None:
    reply = Reply(200, {"x-a": "secret"}, b"secret")
    logs = (LogLine("info", "secret", {"k": "secret"}),)
    result = RunResult(ending="raised", reply=reply, error=ScriptError("ValueError", "no secret"), logs=logs)
    kept = having("secret").result(result, with_reply=True)
    assert "secret" not in str(kept)
    assert having("secret").result(result, with_reply=False).reply == reply
