"""Rates of requests, kept by the Generic Cell Rate Algorithm (ITU-T I.371, annex A, as virtual scheduling).

All that is kept of a stream of arrivals is its theoretical arrival time: when the next one would come if they came evenly. An arrival conforms while that
time is no more than the window ahead. So a whole quota may come at once, and from then on one for each `window_s / quota` that passes.
"""

from __future__ import annotations

from typing import Final

import msgspec

_ROUNDING_S: Final = 1e-9


class Rate(msgspec.Struct, frozen=True):
    """`quota` arrivals in `window_s` seconds."""

    quota: float
    window_s: float

    def shared(self, processes: int) -> Rate:
        """The part of it that each of so many processes may let pass."""
        return self if processes <= 1 else Rate(self.quota / processes, self.window_s)


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of an arrival.

    `due_s` is the theoretical arrival time after it; `remaining` how many more would pass now, `full_in_s` when all would again, and `wait_s` when one would
    that does not pass now.
    """

    passes: bool
    due_s: float
    remaining: int
    full_in_s: float
    wait_s: float


def arrive(rate: Rate, due_s: float, now_s: float) -> Verdict:
    """Judge an arrival at `now_s` of a stream whose theoretical arrival time is `due_s`. One that does not pass leaves no trace."""
    interval_s = rate.window_s / rate.quota
    ahead_s = max(rate.window_s, interval_s)  # of a share smaller than one, one passes at a time
    then_s = max(due_s, now_s) + interval_s
    too_soon_s = then_s - now_s - ahead_s
    if too_soon_s > _ROUNDING_S:
        return Verdict(passes=False, due_s=due_s, remaining=0, full_in_s=due_s - now_s, wait_s=too_soon_s)
    return Verdict(passes=True, due_s=then_s, remaining=int((_ROUNDING_S - too_soon_s) / interval_s), full_in_s=then_s - now_s, wait_s=0.0)
