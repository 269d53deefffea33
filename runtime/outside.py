"""What the outside world has answered to an execution's calls.

A re-run is given the n-th answer again while its calls are equal, so that nobody is charged twice and no id changes; a retry asks anew.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.sandbox import Call

MAX_KEPT_BYTES: Final = 24 * 1024 * 1024
"""Of one execution's answers; what comes after is asked for again in a re-run. Room for the longest answer of HTTP, text and bytes."""


class Kept(msgspec.Struct, frozen=True):
    """A call and its answer: a value, or the error that the script got."""

    call: Call
    value: Any = None
    error: Exception | None = None


class Outside:
    """The answers of one execution over all its runs, call by call. A call asks `again` first; when nothing is kept, its answer goes to `keep`."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []
        self._sizes: list[int] = []
        self.number = 0

    def begin(self) -> None:
        """Let a run begin. `number` counts its calls from 0, so that a call has the same number in each run that comes to it."""
        self.number = 0

    def again(self, call: Call) -> Kept | None:
        """What this call was answered in the run before. None once the calls differ: from there on, everything is forgotten."""
        if self.number < len(self._kept):
            kept = self._kept[self.number]
            if _equal(kept.call, call):
                self.number += 1
                return kept
            del self._kept[self.number :], self._sizes[self.number :]
        return None

    def keep(self, kept: Kept, size: int) -> None:
        """Keep an answer of about `size` bytes, unless one before it was too much."""
        if self.number == len(self._kept) and sum(self._sizes) + size <= MAX_KEPT_BYTES:
            self._kept.append(kept)
            self._sizes.append(size)
        self.number += 1


def _equal(one: Call, other: Call) -> bool:
    try:
        return one == other
    except RecursionError:  # nested deeper than can be compared
        return False
