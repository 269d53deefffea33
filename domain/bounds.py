"""How much an app may ask of the instance: rates of its requests, and quotas of a day. None of any means that it is not bounded."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from domain.errors import Invalid

_MAX_COUNT: Final = 1_000_000_000
_MAX_BYTES: Final = 2**53  # what every reader of JSON can hold

Count = Annotated[int, msgspec.Meta(ge=1, le=_MAX_COUNT)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=_MAX_BYTES)]


class RateLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates: of all requests to an app, and of those that come with one API key."""

    requests_per_minute: Count | None = None
    requests_per_minute_per_key: Count | None = None


class Quotas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an app may use up in a day (UTC), and what it may store: the values of its entries, documents and files as they are now."""

    requests_per_day: Count | None = None
    executions_per_day: Count | None = None
    events_per_day: Count | None = None
    storage_bytes: Bytes | None = None


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both."""

    limits: RateLimits = RateLimits()
    quotas: Quotas = Quotas()


UNBOUNDED: Final = Bounds()


def effective(own: Bounds, defaults: Bounds, ceilings: Bounds) -> Bounds:
    """What holds for an app: its own, or else the instance's default; and the ceiling wherever that is lower, or nothing is said."""
    if own == defaults == ceilings == UNBOUNDED:
        return UNBOUNDED
    return Bounds(
        limits=RateLimits(**_least(own.limits, defaults.limits, ceilings.limits)),
        quotas=Quotas(**_least(own.quotas, defaults.quotas, ceilings.quotas)),
    )


def check_below(own: Bounds, ceilings: Bounds, before: Bounds = UNBOUNDED, field: str = "$") -> None:
    """Raise Invalid `above_ceiling`, with what was requested and the ceiling, for the first bound that is set higher than its ceiling.

    One that is what it was `before` passes: the ceiling was lowered since, and whoever changes something else need not care.
    """
    for part in ("limits", "quotas"):
        mine, highest, was = getattr(own, part), getattr(ceilings, part), getattr(before, part)
        for name in mine.__struct_fields__:
            requested, ceiling = getattr(mine, name), getattr(highest, name)
            if requested is not None and ceiling is not None and requested > ceiling and requested != getattr(was, name):
                path = f"{field}.{part}.{name}"
                raise Invalid(
                    f"{path}: {requested} is above this instance's ceiling of {ceiling}",
                    field=path,
                    code="above_ceiling",
                    requested=requested,
                    ceiling=ceiling,
                )


def _least(own: RateLimits | Quotas, default: RateLimits | Quotas, ceiling: RateLimits | Quotas) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for name in own.__struct_fields__:
        mine = getattr(own, name)
        wanted, highest = getattr(default, name) if mine is None else mine, getattr(ceiling, name)
        found[name] = min((value for value in (wanted, highest) if value is not None), default=None)
    return found
