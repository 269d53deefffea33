"""The rates, against the token bucket that they are another form of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.rates import Rate, arrive

WINDOW_S = 64.0


class Bucket:
    """Tokens come evenly, up to a whole quota; each arrival that passes takes one."""

    def __init__(self, quota: float) -> None:
        self.quota = quota
        self.tokens = quota
        self.at_s = 0.0

    def arrive(self, now_s: float) -> bool:
        self.tokens = min(self.quota, self.tokens + (now_s - self.at_s) * self.quota / WINDOW_S)
        self.at_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


# Powers of two and eighths of seconds are exact in floating point, so both must agree to the last arrival.
@given(st.sampled_from([1, 2, 4, 8, 16, 32]), st.lists(st.integers(0, 400), max_size=200))
def test_it_lets_pass_what_a_token_bucket_does(quota: int, pauses: list[int]) -> None:
    rate, bucket = Rate(quota, WINDOW_S), Bucket(quota)
    due_s, now_s = 0.0, 0.0
    for pause in pauses:
        now_s += pause / 8
        verdict = arrive(rate, due_s, now_s)
        assert verdict.passes is bucket.arrive(now_s)
        due_s = verdict.due_s
        if verdict.passes:
            assert verdict.remaining == int(bucket.tokens)
            assert verdict.full_in_s == (quota - bucket.tokens) * WINDOW_S / quota


@given(st.floats(0.2, 1000), st.lists(st.floats(0, 100), max_size=100))
def test_never_more_than_the_quota_and_what_time_has_given_back(quota: float, pauses: list[float]) -> None:
    rate = Rate(quota, 60.0)
    due_s, now_s, passed = 0.0, 1000.0, 0
    for pause in pauses:
        now_s += pause
        verdict = arrive(rate, due_s, now_s)
        due_s = verdict.due_s
        passed += verdict.passes
        assert passed <= max(quota, 1) + (now_s - 1000.0) * quota / 60 + 1e-6
        if not verdict.passes:
            again = arrive(rate, due_s, now_s + verdict.wait_s + 1e-6)
            assert again.passes
            assert not arrive(rate, due_s, now_s + verdict.wait_s - 1e-3).passes


def test_a_whole_quota_may_come_at_once_and_then_one_by_one() -> None:
    rate = Rate(3, 60.0)
    due_s = 0.0
    seen = []
    for now_s in (100.0, 100.0, 100.0, 100.0, 119.0, 120.0, 120.0):
        verdict = arrive(rate, due_s, now_s)
        due_s = verdict.due_s
        seen.append((verdict.passes, verdict.remaining, verdict.wait_s))
    assert seen == [(True, 2, 0), (True, 1, 0), (True, 0, 0), (False, 0, 20), (False, 0, 1), (True, 0, 0), (False, 0, 20)]


def test_processes_share_a_rate_and_each_lets_at_least_one_pass() -> None:
    assert Rate(100, 60.0).shared(4) == Rate(25, 60.0)
    assert Rate(100, 60.0).shared(0) == Rate(100, 60.0)
    few = Rate(1, 60.0).shared(4)
    first = arrive(few, 0.0, 0.0)
    assert first.passes
    assert arrive(few, first.due_s, 0.0).wait_s == 240.0
