"""Events that outsiders can cause as often as they like, told as few: what repeats itself within a minute is one event with a count.

The first of its kind is told at the next look, its repetitions of the minute after that together. One originator is told of in so many kinds a minute, logins
and calls apart; whatever else he causes is one event that says how much it was. So nobody can make the log grow faster than that, and nobody who is known can
hide behind the noise of another: a user is one with all his keys. All who are not known are one originator: what they do to each other's traces is all that
they can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

import msgspec

from domain.access import Part, Repeated, Suppressed

WINDOW_S: Final = 60.0
MAX_KINDS_PER_ORIGIN: Final = 60
MAX_KINDS: Final = 5000

_SUPPRESSED: Final = "suppressed"


class Origin(msgspec.Struct, frozen=True):
    """Who has caused something, and in what part: as events name him, and his own stream."""

    actor: str
    stream: str
    part: Part

    @property
    def whom(self) -> tuple[str, Part]:
        """By what his kinds are counted: a user and his keys have one stream."""
        return self.stream, self.part


class Told(msgspec.Struct, frozen=True):
    """An event to append, and to which stream."""

    origin: Origin
    stream: str
    event: Repeated


class _Kind(msgspec.Struct, eq=False):
    """What repeats itself: the event that tells it, and how often it was since that was last told. Not again before `due_s`."""

    stream: str
    event: Repeated
    due_s: float


class Coalescer:
    """A bounded table of what has happened lately. `now_s` are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Origin, Hashable], _Kind] = {}
        self._by_whom: Counter[tuple[str, Part]] = Counter()

    def __len__(self) -> int:
        return len(self._kinds)

    def note(self, origin: Origin, key: Hashable, stream: str, event: Repeated, now_s: float) -> None:
        """Something has happened, once: `event` tells it with its count of one. What has the same key is the same again."""
        known = self._kinds.get((origin, key))
        if known is None and self._is_full(origin):
            key, stream = _SUPPRESSED, origin.stream
            event = Suppressed(part=origin.part, count=1, first_at=event.first_at, last_at=event.last_at)
            known = self._kinds.get((origin, key))
        if known is None:
            self._kinds[origin, key] = _Kind(stream, event, now_s)
            self._by_whom[origin.whom] += 1
        else:
            known.event = _again(known.event, event)

    def take(self, now_s: float, *, everything: bool = False) -> list[Told]:
        """What is to be told now."""
        told = []
        for (origin, key), kind in list(self._kinds.items()):
            if now_s < kind.due_s and not everything:
                continue
            if kind.event.count:
                told.append(Told(origin, kind.stream, kind.event))
                kind.event = msgspec.structs.replace(kind.event, count=0)
                kind.due_s = now_s + WINDOW_S
            else:
                self._forget(origin, key)
        return told

    def _is_full(self, origin: Origin) -> bool:
        return self._by_whom[origin.whom] >= MAX_KINDS_PER_ORIGIN or len(self._kinds) >= MAX_KINDS

    def _forget(self, origin: Origin, key: Hashable) -> None:
        del self._kinds[origin, key]
        self._by_whom[origin.whom] -= 1
        if not self._by_whom[origin.whom]:
            del self._by_whom[origin.whom]


def _again(known: Repeated, event: Repeated) -> Repeated:
    """One more of it; the first since it was last told stands for all."""
    if not known.count:
        return event
    return msgspec.structs.replace(known, count=known.count + 1, last_at=event.last_at)
