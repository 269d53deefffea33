"""Rates and quotas in HTTP: what is above is refused by 429, and answers say how much is left.

The fields `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10: `q` in `w` seconds are allowed, `r` are left, and all of
them again in `t` seconds. Where several processes serve, `r` and `t` are those of the one that answers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal
from uuid import UUID

from domain.authz import Principal
from domain.bounds import UNBOUNDED
from domain.errors import QuotaExceeded, RateLimited
from domain.rates import Rate
from projections.control.views import AppView
from runtime.limits.rates import Rates
from runtime.platform import Platform
from web.headers import also

_MINUTE_S: Final = 60.0
_DAY_S: Final = 86_400
Policy = Literal["app", "key", "day"]


async def admit(platform: Platform, scope: Mapping[str, Any], view: AppView, *, runs: bool = True) -> None:
    """Let a request to an app pass, and count it; `runs` says whether it is for a script. Raises RateLimited, QuotaExceeded."""
    bounds = view.bounds
    if bounds is not UNBOUNDED:
        limit_rate(platform.rates, scope, "app", view.app_id, bounds.limits.requests_per_minute)
        if bounds.quotas.requests_per_day is not None:
            await _admit_today(platform, scope, view.app_id, bounds.quotas.requests_per_day)
        if runs:
            await platform.quotas.admit_run(view.app_id, bounds)
    platform.usage.request(view.app_id)


def admit_key(platform: Platform, scope: Mapping[str, Any], view: AppView, principal: Principal | None) -> None:
    """Let a request pass that comes with an API key. Raises RateLimited."""
    if view.bounds is not UNBOUNDED and principal is not None and principal.kind == "key":
        limit_rate(platform.rates, scope, "key", (view.app_id, principal.id), view.bounds.limits.requests_per_minute_per_key)


def limit_rate(rates: Rates, scope: Mapping[str, Any], policy: Policy, stream: Hashable, per_minute: int | None) -> None:
    """Let so many requests of a stream pass in a minute; none are counted if None. Raises RateLimited."""
    if per_minute is None:
        return
    verdict = rates.arrive((stream, per_minute), _rate(per_minute))  # with another rate it begins anew
    _say(scope, policy, per_minute, int(_MINUTE_S), verdict.remaining, verdict.full_in_s)
    if not verdict.passes:
        raise RateLimited(
            f"{per_minute} requests a minute are allowed; try again in {max(1, math.ceil(verdict.wait_s))} s",
            retry_after_s=verdict.wait_s,
            limit=per_minute,
            window_s=int(_MINUTE_S),
            **{"violated-policies": [policy]},
        )


async def _admit_today(platform: Platform, scope: Mapping[str, Any], app_id: UUID, per_day: int) -> None:
    resets_in_s = (platform.quotas.resets_at() - platform.clock()).total_seconds()
    try:
        left = await platform.quotas.admit_request(app_id, per_day)
    except QuotaExceeded:
        _say(scope, "day", per_day, _DAY_S, 0, resets_in_s)
        raise
    _say(scope, "day", per_day, _DAY_S, left, resets_in_s)


def _say(scope: Mapping[str, Any], policy: Policy, quota: int, window_s: int, remaining: int, full_in_s: float) -> None:
    left = b'"%b";r=%d;t=%d' % (policy.encode(), remaining, math.ceil(full_in_s))
    also(scope, (b"ratelimit-policy", _policy(policy, quota, window_s)), (b"ratelimit", left))


@lru_cache(maxsize=256)
def _policy(policy: Policy, quota: int, window_s: int) -> bytes:
    return b'"%b";q=%d;w=%d' % (policy.encode(), quota, window_s)


@lru_cache(maxsize=256)
def _rate(per_minute: int) -> Rate:
    return Rate(per_minute, _MINUTE_S)
