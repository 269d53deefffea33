"""Retries: how often a triggered execution is tried, and how long it waits before the next attempt."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from domain.errors import Invalid

Backoff = Literal["exponential", "linear", "constant"]

MAX_DELAY_S: Final = 3600.0

_RANGES: Final = {"max_attempts": (1, 20), "base_ms": (10, 3_600_000), "jitter_pct": (0, 100)}
_MAX_DOUBLINGS: Final = 40
"""Far past an hour from any base, and far from an overflow."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a trigger retries. Resolved when the trigger is created and carried in its event, so a change of defaults changes no trigger.

    `max_attempts` counts the first one (1 to 20). `base_ms` is the wait after it (10 to 3,600,000), which then doubles, grows by itself, or stays.
    `jitter_pct` (0 to 100) spreads each wait by so much in both directions. No wait is longer than an hour.
    """

    max_attempts: int = 3
    backoff: Backoff = "exponential"
    base_ms: int = 1000
    jitter_pct: int = 20


def check_retry(policy: RetryPolicy, field: str = "retry") -> RetryPolicy:
    """The policy as it is; raises Invalid naming `<field>.<member>` where it is out of range."""
    for name, (low, high) in _RANGES.items():
        value = getattr(policy, name)
        if not low <= value <= high:
            raise Invalid(f"{field}.{name}: expected {low} to {high}, got {value}", field=f"{field}.{name}")
    return policy


def is_exhausted(policy: RetryPolicy, attempt: int) -> bool:
    """Whether the attempt that has just failed (the first is 1) was the last."""
    return attempt >= policy.max_attempts


def delay_s(policy: RetryPolicy, attempt: int, draw: float) -> float:
    """Seconds to wait after the failure of `attempt` (the first is 1); `draw`, in [0, 1), is the chance behind the jitter."""
    spread = policy.jitter_pct / 100 * (2 * draw - 1)
    # The bound stands on both sides: a long wait is spread below the hour, none goes beyond it.
    return min(min(_base_s(policy, attempt), MAX_DELAY_S) * (1 + spread), MAX_DELAY_S)


def _base_s(policy: RetryPolicy, attempt: int) -> float:
    match policy.backoff:
        case "constant":
            factor = 1
        case "linear":
            factor = attempt
        case "exponential":
            factor = 1 << min(attempt - 1, _MAX_DOUBLINGS)
    return policy.base_ms * factor / 1000
