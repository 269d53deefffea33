"""Whose events a follower applies next: a share for each app that is behind, so that none waits for another's backlog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from adapters.postgres.projecting.port import Positions
from adapters.postgres.projecting.replay import Range

MAX_EVENTS: Final = 1000
MAX_APPS: Final = 50
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0


class Turns:
    """`done` is how far each app has been applied, as far as that is known; `heads` how far the logs go of those that are behind."""

    def __init__(self) -> None:
        self.done: Positions = {}
        self._heads: Positions = {}
        self._pauses: dict[UUID, tuple[float, float]] = {}

    def moved(self, app_id: UUID, head: int) -> None:
        """The app's log reaches `head`."""
        if head > max(self.done.get(app_id, 0), self._heads.get(app_id, 0)):
            self._heads[app_id] = head

    def unknown(self) -> list[UUID]:
        """Apps that are behind, nobody knows from where."""
        return [app_id for app_id in self._heads if app_id not in self.done]

    def next(self, now_s: float) -> list[Range]:
        """What to apply now: those that have waited longest first, and of each as much as leaves the others theirs."""
        waiting = [app_id for app_id in self._heads if app_id in self.done and self._pauses.get(app_id, (0.0, 0.0))[0] <= now_s][:MAX_APPS]
        behind = {app_id: self._heads[app_id] - self.done[app_id] for app_id in waiting}
        return [(app_id, self.done[app_id], self.done[app_id] + events) for app_id, events in shares(behind, MAX_EVENTS).items()]

    def reached(self, positions: Mapping[UUID, int]) -> None:
        """These were applied up to there. Who has more goes to the end of the queue."""
        for app_id, position in positions.items():
            self.done[app_id] = position
            self._pauses.pop(app_id, None)
            head = self._heads.pop(app_id, 0)
            if head > position:
                self._heads[app_id] = head

    def drop_unknown(self, asked: Iterable[UUID]) -> None:
        """Those of which nothing is known after asking are not followed."""
        for app_id in asked:
            if app_id not in self.done:
                self._heads.pop(app_id, None)

    def failed(self, app_id: UUID, now_s: float) -> float:
        """The app's next events cannot be applied; returns for how long it is let alone, longer each time."""
        pause_s = min(2 * self._pauses.get(app_id, (0.0, _FIRST_PAUSE_S / 2))[1], _LONGEST_PAUSE_S)
        self._pauses[app_id] = (now_s + pause_s, pause_s)
        return pause_s

    def idle_s(self, now_s: float) -> float | None:
        """How long there is nothing to do unless a log moves; None: for ever."""
        ends = [self._pauses.get(app_id, (now_s, 0.0))[0] for app_id in self._heads]
        return max(min(ends) - now_s, 0.0) if ends else None


def shares(behind: Mapping[UUID, int], room: int) -> dict[UUID, int]:
    """Split `room` events among apps: who needs less than an equal share gets all that it needs, the others share what that leaves."""
    found: dict[UUID, int] = {}
    left = len(behind)
    for app_id, events in sorted(behind.items(), key=lambda item: item[1]):
        found[app_id] = min(events, max(room // left, 1))
        room -= found[app_id]
        left -= 1
    return found


def reached(ranges: Sequence[Range], rows: Iterable[Any]) -> Positions:
    """How far a page goes: each range to its end, or to the last row of one that was cut. `rows` have `app_id`, `position` and `found`."""
    last: dict[UUID, tuple[int, int, int]] = {}
    for row in rows:
        count = last.get(row["app_id"], (0, 0, 0))[1] + 1
        last[row["app_id"]] = (row["position"], count, row["found"])
    return {app_id: last[app_id][0] if app_id in last and last[app_id][1] < last[app_id][2] else up_to for app_id, _, up_to in ranges}
