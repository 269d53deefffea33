"""Retry policies: their ranges and the waits that they give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.retry import MAX_DELAY_S, RetryPolicy, check_retry, delay_s, is_exhausted

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 20),
    backoff=st.sampled_from(["exponential", "linear", "constant"]),
    base_ms=st.integers(10, 3_600_000),
    jitter_pct=st.integers(0, 100),
)
attempts = st.integers(1, 20)
draws = st.floats(0, 1, exclude_max=True)


def test_the_default_is_three_attempts_from_one_second() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.backoff, policy.base_ms, policy.jitter_pct) == (3, "exponential", 1000, 20)
    assert [delay_s(policy, attempt, 0.5) for attempt in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert delay_s(policy, 1, 0.0) == pytest.approx(0.8)
    assert [is_exhausted(policy, attempt) for attempt in (1, 2, 3, 4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("exponential", [0.5, 1.0, 2.0, 4.0]), ("linear", [0.5, 1.0, 1.5, 2.0]), ("constant", [0.5, 0.5, 0.5, 0.5])],
)
def test_backoff(backoff: Any, waits: list[float]) -> None:
    policy = RetryPolicy(backoff=backoff, base_ms=500, jitter_pct=0)
    assert [delay_s(policy, attempt, 0.9) for attempt in (1, 2, 3, 4)] == waits


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_attempts", 0), ("max_attempts", 21), ("base_ms", 9), ("base_ms", 3_600_001), ("base_ms", -1), ("jitter_pct", -1), ("jitter_pct", 101)],
)
def test_out_of_range_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(Invalid) as refused:
        check_retry(msgspec.convert({name: value}, RetryPolicy))
    assert refused.value.field == f"retry.{name}"
    assert str(value) in refused.value.detail


@pytest.mark.parametrize(
    "body", [b'{"attempts":3}', b'{"backoff":"random"}', b'{"max_attempts":true}', b'{"base_ms":1.5}', b'{"base_ms":"1000"}', b"[]", b"null"]
)
def test_wrong_shapes_do_not_decode(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=RetryPolicy)


@given(policies)
def test_policies_in_range_pass_and_survive_the_log(policy: RetryPolicy) -> None:
    assert check_retry(policy) is policy
    assert msgspec.json.decode(msgspec.json.encode(policy), type=RetryPolicy) == policy


@given(policies, attempts, draws)
def test_a_wait_is_within_its_jitter_and_the_hour(policy: RetryPolicy, attempt: int, draw: float) -> None:
    middle = delay_s(policy, attempt, 0.5)
    share = policy.jitter_pct / 100
    wait = delay_s(policy, attempt, draw)
    assert 0 <= wait <= MAX_DELAY_S
    assert middle * (1 - share) - 1e-9 <= wait <= middle * (1 + share) + 1e-9


@given(policies, attempts, draws)
def test_waits_never_shrink_from_attempt_to_attempt(policy: RetryPolicy, attempt: int, draw: float) -> None:
    assert delay_s(policy, attempt + 1, draw) >= delay_s(policy, attempt, draw)


@given(policies, attempts, draws, draws)
def test_waits_grow_with_the_draw(policy: RetryPolicy, attempt: int, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert delay_s(policy, attempt, low) <= delay_s(policy, attempt, high)


def test_an_absurd_attempt_is_still_an_hour() -> None:
    assert delay_s(RetryPolicy(jitter_pct=0), 10**9, 0.5) == MAX_DELAY_S
