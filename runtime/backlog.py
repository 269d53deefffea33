"""The rows that a process has claimed: some wait for a slot, some run, and of some the outcome is on its way into the log.

A run has its slot until its script has ended. Beyond those that have slots, rows are claimed *ahead*: the more, the sooner they were begun of late. So where
runs are short one query claims many rows, and where they are long no row waits here that another process could run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from runtime.dispatch import Work

MAX_AHEAD: Final = 112
GIVE_BACK_AFTER_S: Final = 0.5
"""A row waits for a slot no longer than this."""
_SOON_S: Final = 0.02
_LATE_S: Final = 0.1


class _Waiting(msgspec.Struct, frozen=True):
    """A row that waits for a slot, since when."""

    work: Work
    since_s: float


class Shares(NamedTuple):
    """What a claim may take: how many rows in all, and of one app together with what is held of it."""

    room: int
    per_app: int
    held: Mapping[UUID, int]


class Backlog:
    """`slots` runs at once. An app has at most half of the slots, and of what is claimed; but at least one. Times are monotonic seconds.

    Of apps that are `resting` nothing is claimed, and what is due is not counted as left.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._ahead = 0
        self._slowest_s: float | None = None
        self._running: Counter[UUID] = Counter()
        self._runs = 0
        self._waiting: dict[UUID, deque[_Waiting]] = {}
        self._full: set[UUID] = set()
        self._left_more = True
        self._short = False
        self._rows = 0
        self.resting: set[UUID] = set()
        self.held: Counter[UUID] = Counter()

    def __len__(self) -> int:
        return self._rows

    @property
    def room(self) -> int:
        """How many more rows may be claimed."""
        return max(0, self._slots + self._ahead - self._rows)

    @property
    def per_app(self) -> int:
        """How many rows an app may have here."""
        return max(1, (self._slots + self._ahead) // 2)

    def reserve(self, app_id: UUID) -> int:
        """Hold as many rows of an app as it may have; how many that are."""
        if app_id in self.resting:
            return 0
        rows = max(0, min(self.room, self.per_app - self.held[app_id]))
        if rows:
            self.hold(app_id, rows)
        else:
            self.ran_short()
        return rows

    def hold(self, app_id: UUID, rows: int = 1) -> None:
        """Count rows that are claimed, or may be in a moment."""
        self.held[app_id] += rows
        self._rows += rows

    def ran_short(self) -> None:
        """Note that more rows would have been claimed, had there been room."""
        self._short = True

    def leave(self, app_id: UUID, rows: int = 1) -> None:
        """Forget a row that is done or given back, or rows that were reserved in vain."""
        self._rows -= rows
        self.held[app_id] -= rows
        if not self.held[app_id]:
            del self.held[app_id]

    def shares(self) -> Shares:
        """What a claim may take now."""
        return Shares(self.room, self.per_app, {**self.held, **dict.fromkeys(self.resting, self.per_app)})

    def looked(self, shares: Shares, found: Counter[UUID], now_s: float) -> None:
        """Hold what a claim has found within these shares. It may have left more, and more of those apps whose share it has used up.

        If so, or if it ran short of room otherwise, and all rows before were begun soon, the next one may claim further ahead; if one was late, not as far.
        """
        self._left_more = found.total() >= shares.room
        before = Counter(shares.held)
        before.update(found)
        self._full = {app_id for app_id, rows in before.items() if rows >= shares.per_app} - self.resting
        self.held.update(found)
        self._rows += found.total()
        wanted, self._short = self.may_have_left or self._short, False
        slowest_s, self._slowest_s = self._longest_wait(now_s), None
        if slowest_s is None:
            return
        if slowest_s > _LATE_S:
            self._ahead //= 2
        elif wanted and slowest_s < _SOON_S:
            self._ahead = min(max(2 * self._ahead, self._slots), MAX_AHEAD)

    @property
    def may_have_left(self) -> bool:
        """Whether the last claim may have left rows that were due."""
        return self._left_more or bool(self._full)

    def wants_more(self, app_id: UUID) -> bool:
        """Whether it is worth claiming again, now that a row of this app has left. What is claimed ahead is claimed many at a time."""
        if self._left_more and self.room >= self._enough(self._slots + self._ahead):
            return True
        return app_id in self._full and self.per_app - self.held[app_id] >= self._enough(self.per_app)

    def wait(self, work: Work, now_s: float) -> None:
        """Let a held row wait for a slot."""
        self._waiting.setdefault(work.claim.app_id, deque()).append(_Waiting(work, now_s))

    def begin(self, now_s: float) -> Work | None:
        """Give a slot to the next row, of the app that has the fewest; None when nobody may have one."""
        if self._runs >= self._slots or not self._waiting:
            return None
        app_id = min(self._waiting, key=lambda app_id: self._running[app_id])
        if self._running[app_id] >= max(1, self._slots // 2):
            return None
        waiting = self._waiting.pop(app_id)
        first = waiting.popleft()
        if waiting:
            self._waiting[app_id] = waiting  # behind the others
        self._running[app_id] += 1
        self._runs += 1
        self._slowest_s = max(self._slowest_s or 0.0, now_s - first.since_s)
        return first.work

    def ended(self, app_id: UUID) -> None:
        """Take a slot back."""
        self._runs -= 1
        self._running[app_id] -= 1
        if not self._running[app_id]:
            del self._running[app_id]

    def overdue(self, now_s: float) -> Sequence[Work]:
        """Take out the rows that have waited too long; they are still held. None is claimed ahead for a while, if there are any."""
        late: list[Work] = []
        for waiting in self._waiting.values():
            while waiting and now_s - waiting[0].since_s >= GIVE_BACK_AFTER_S:
                late.append(waiting.popleft().work)
        if late:
            self._ahead = 0
            self._slowest_s = GIVE_BACK_AFTER_S
            self._waiting = {app_id: waiting for app_id, waiting in self._waiting.items() if waiting}
        return late

    def forgo(self) -> Sequence[Work]:
        """Take out all rows that wait for a slot, because none will be given any more; they are still held."""
        forgone = [each.work for waiting in self._waiting.values() for each in waiting]
        self._waiting.clear()
        return forgone

    def waits(self) -> bool:
        """Whether any row waits for a slot."""
        return bool(self._waiting)

    def _longest_wait(self, now_s: float) -> float | None:
        """Of the rows begun since the last claim and those that wait still."""
        waits_s = [now_s - waiting[0].since_s for waiting in self._waiting.values()]
        return max([*waits_s, *(() if self._slowest_s is None else (self._slowest_s,))], default=None)

    def _enough(self, share: int) -> int:
        return share // 2 if self._ahead else 1
