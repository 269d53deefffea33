"""Seats in the sandbox, given to apps in turn.

A script that loops keeps its seat until its time limit, so no seat is won back from it. Therefore room is left: an app has at most three quarters of the
seats, all queued runs together have at most three quarters, so that callers who wait find some, and of these one app has at most three quarters again, so
that the queued runs of others do. Within these bounds a free seat goes to the waiting app that has the fewest, and among those to the one that was served
longest ago.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import NamedTuple
from uuid import UUID

import anyio


class _Line(NamedTuple):
    """Whoever waits for the same: an app's queued runs, or its others."""

    app_id: UUID
    queued: bool


class Shares:
    """`seats` in all. With fewer than two nothing can be left for others, with fewer than three nothing for other apps' queued runs."""

    def __init__(self, seats: int) -> None:
        self._free = seats
        self._per_app = _most_of(seats)
        self._queued_in_all = _most_of(seats)
        self.queued_per_app = _most_of(self._queued_in_all)
        self._taken: Counter[UUID] = Counter()
        self._queued: Counter[UUID] = Counter()
        self._waiting: OrderedDict[_Line, deque[anyio.Event]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for a seat."""
        return sum(map(len, self._waiting.values()))

    def take_now(self, app_id: UUID, *, queued: bool) -> bool:
        """Take a seat for an app if there is one; `queued`: for a run from the outbox, which no caller's patience bounds.

        Whoever waits has been refused under the bounds as they are now, so nobody is overtaken.
        """
        line = _Line(app_id, queued)
        if not self._may_have(line):
            return False
        self._grant(line)
        return True

    async def take(self, app_id: UUID, *, queued: bool) -> None:
        """Take a seat as soon as there is one; it must be left."""
        if self.take_now(app_id, queued=queued):
            return
        line = _Line(app_id, queued)
        turn = anyio.Event()
        self._waiting.setdefault(line, deque()).append(turn)
        try:
            await turn.wait()
        except BaseException:  # cancelled: a seat that was granted at the same instant is given on
            if turn.is_set():
                self._leave(line)
            else:
                self._give_up(line, turn)
            raise

    def _may_have(self, line: _Line) -> bool:
        if not self._free or self._taken[line.app_id] >= self._per_app:
            return False
        return not line.queued or (self._queued[line.app_id] < self.queued_per_app and self._queued.total() < self._queued_in_all)

    def leave(self, app_id: UUID, *, queued: bool) -> None:
        """Give a seat that was taken to whoever is next."""
        self._leave(_Line(app_id, queued))

    def _leave(self, line: _Line) -> None:
        self._free += 1
        _count_down(self._taken, line.app_id)
        if line.queued:
            _count_down(self._queued, line.app_id)
        # One seat may let in several: it can be the one that kept an app, and with it the queued runs of another, at a bound.
        while following := self._next():
            turn = self._waiting[following].popleft()
            self._waiting.move_to_end(following)
            if not self._waiting[following]:
                del self._waiting[following]
            self._grant(following)
            turn.set()

    def _next(self) -> _Line | None:
        # The order of `_waiting` is that of the last service, and `min` takes the first of equals.
        return min(filter(self._may_have, self._waiting), key=lambda line: self._taken[line.app_id], default=None)

    def _grant(self, line: _Line) -> None:
        self._free -= 1
        self._taken[line.app_id] += 1
        if line.queued:
            self._queued[line.app_id] += 1

    def _give_up(self, line: _Line, turn: anyio.Event) -> None:
        turns = self._waiting[line]
        turns.remove(turn)
        if not turns:
            del self._waiting[line]


def _most_of(seats: int) -> int:
    """All but a quarter, rounded up; at least one."""
    return max(1, seats * 3 // 4)


def _count_down(counter: Counter[UUID], app_id: UUID) -> None:
    counter[app_id] -= 1
    if not counter[app_id]:
        del counter[app_id]
