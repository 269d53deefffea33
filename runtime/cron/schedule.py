"""When a schedule is due: APScheduler finds the wall-clock times, this module says which instants they are.

Wall-clock times that daylight saving leaves out or repeats:

- A schedule whose hour is `*` goes by elapsed time: its times are those at which the clock on the wall matches, in a repeated hour both times; what is left
  out is not made up for.
- Any other is due once for each of its wall-clock times: one that is left out at the end of the gap (all of one gap together), one that is repeated the first
  time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

import msgspec
from apscheduler.triggers.cron import CronTrigger

from domain.errors import Invalid

MAX_SCHEDULE_CHARS: Final = 256
_FIELDS: Final = ("second", "minute", "hour", "day", "month", "day_of_week")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAY: Final = re.compile(r"(?:\*|(?P<first>[0-7]|[a-z]{3})(?:-(?P<last>[0-7]|[a-z]{3}))?)(?:/(?P<step>[1-7]))?")
_AHEAD: Final = timedelta(days=366 * 41)
"""A 29 February on a given weekday may be 40 years away (where a century is no leap year)."""
_SECOND: Final = timedelta(seconds=1)
_NO_CHANGE_WITHIN: Final = timedelta(days=7)
"""No zone changes its clock and changes it back within so little time."""


class Schedule(msgspec.Struct, frozen=True):
    """A schedule that can be asked."""

    wall: CronTrigger
    zone: ZoneInfo
    elapses: bool

    def next_due(self, after: datetime) -> datetime | None:
        """The first instant after `after` at which it is due; None when there is none."""
        return self._next_by_elapsed_time(after) if self.elapses else self._next_by_wall_clock(after)

    def latest_due(self, due: datetime, until: datetime) -> tuple[datetime, datetime | None]:
        """Of the times from `due`, which is one, up to `until`: the latest, and the one after that. However many there are between them."""
        following = self.next_due(due)
        if following is None or following > until:
            return due, following
        low, high = 0, int((until - due).total_seconds()) + 1  # due again after `low` seconds, no more after `high`
        while high - low > 1:
            middle = (low + high) // 2
            following = self.next_due(due + middle * _SECOND)
            low, high = (middle, high) if following is not None and following <= until else (low, middle)
        latest = due + high * _SECOND
        return latest, self.next_due(latest)

    def _next_by_wall_clock(self, after: datetime) -> datetime | None:
        local = after.astimezone(self.zone)
        wall = local.replace(tzinfo=None, fold=0)
        start = self._end_of_overlap(wall) if local.fold else wall + timedelta(microseconds=1)
        found = self._match(start)
        return None if found is None else self._instant(found)

    def _next_by_elapsed_time(self, after: datetime) -> datetime | None:
        cursor, start = after, after.astimezone(self.zone).replace(tzinfo=None) + timedelta(microseconds=1)
        while (found := self._match(start)) is not None:
            candidate = (found - _offset(cursor, self.zone)).replace(tzinfo=UTC)
            change = self._first_change(cursor, candidate)
            if change is None:
                return candidate
            cursor, start = change, change.astimezone(self.zone).replace(tzinfo=None)
        return None

    def _match(self, start: datetime) -> datetime | None:
        """The first wall-clock time from `start` on that the fields match. Both have no zone."""
        aware = start.replace(tzinfo=UTC, fold=0)
        found: datetime | None = self.wall.get_next_fire_time(None, aware)
        return None if found is None else found.replace(tzinfo=None)

    def _instant(self, wall: datetime) -> datetime:
        """When the clock shows this time for the first time, or, where it never does, when it leaps over it."""
        instant = wall.replace(tzinfo=self.zone).astimezone(UTC)
        if instant.astimezone(self.zone).replace(tzinfo=None) == wall:
            return instant
        earlier = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return self._change_between(earlier, instant)

    def _end_of_overlap(self, wall: datetime) -> datetime:
        """The first wall-clock time after a repeated one that is not repeated itself."""
        length = wall.replace(tzinfo=self.zone).utcoffset() - wall.replace(tzinfo=self.zone, fold=1).utcoffset()  # type: ignore[operator]  # a zone has an offset
        low, high = 0, int(length.total_seconds())
        wall = wall.replace(microsecond=0)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_repeated(wall + middle * _SECOND) else (low, middle)
        return wall + high * _SECOND

    def _is_repeated(self, wall: datetime) -> bool:
        first, second = wall.replace(tzinfo=self.zone), wall.replace(tzinfo=self.zone, fold=1)
        return first.utcoffset() > second.utcoffset()  # type: ignore[operator]  # a zone has an offset

    def _first_change(self, after: datetime, until: datetime) -> datetime | None:
        """The first instant in (after, until] from which on the zone has another offset."""
        start = after
        while start < until:
            end = min(start + _NO_CHANGE_WITHIN, until)
            if _offset(end, self.zone) != _offset(start, self.zone):
                return self._change_between(start, end)
            start = end
        return None

    def _change_between(self, before: datetime, after: datetime) -> datetime:
        before = before.replace(microsecond=0)
        low, high = 0, -((before - after) // _SECOND)
        offset = _offset(before, self.zone)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(before + middle * _SECOND, self.zone) == offset else (low, middle)
        return before + high * _SECOND


@lru_cache(maxsize=1024)
def schedule_of(text: str, timezone: str) -> Schedule:
    """The schedule of six fields (second, minute, hour, day, month, weekday) in a zone. Raises Invalid naming `schedule` or `timezone`."""
    return Schedule(_wall(text), zone_of(timezone), text.split()[2] == "*")


def first_due(text: str, timezone: str, now: datetime) -> datetime:
    """When a new schedule is due first. Raises Invalid, also for one that never is."""
    # Bounded: APScheduler looks for a 31 February until the year 9999.
    if _wall(text, now + _AHEAD).get_next_fire_time(None, now) is None:
        _refuse("schedule", "there is no such date")
    found = schedule_of(text, timezone).next_due(now)
    assert found is not None
    return found


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """A zone by its IANA name. Raises Invalid."""
    if name not in _zones():
        _refuse("timezone", "expected an IANA name, as in Europe/Berlin")
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    """The names that are the same on every machine; what a machine's own folder of zones has besides is no zone, or one with leap seconds."""
    return frozenset((files("tzdata") / "zones").read_text(encoding="utf-8").split())


def _wall(text: str, until: datetime | None = None) -> CronTrigger:
    if len(text) > MAX_SCHEDULE_CHARS or not text.isascii():
        _refuse("schedule", f"expected at most {MAX_SCHEDULE_CHARS} ASCII characters")
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        _refuse("schedule", f"expected 6 fields (second, minute, hour, day, month, weekday), not {len(fields)}")
    values = dict(zip(_FIELDS, fields, strict=True))
    values["day_of_week"] = _weekdays(values["day_of_week"])
    try:
        return CronTrigger(**values, timezone=UTC, end_date=until)
    except ValueError as error:
        _refuse("schedule", str(error))


def _weekdays(field: str) -> str:
    """Weekdays as APScheduler names them; it numbers them from Monday, and knows no 7."""
    if field == "*":
        return field
    return ",".join(dict.fromkeys(day for item in field.split(",") for day in _days(item)))


def _days(item: str) -> Iterator[str]:
    parts = _WEEKDAY.fullmatch(item)
    if parts is None:
        _refuse("schedule", f"{item!r} is no weekday: 0 to 7 (0 and 7 are Sunday), sun to sat, ranges of them, and steps")
    step = int(parts["step"] or 1)
    first = 0 if parts["first"] is None else _day(parts["first"])
    last = 6 if parts["first"] is None else _day(parts["last"], ends=True) if parts["last"] else 6 if parts["step"] else first
    if first > last:
        _refuse("schedule", f"{item!r} ends before it begins")
    return (_WEEKDAYS[day % 7] for day in range(first, last + 1, step))


def _day(text: str, *, ends: bool = False) -> int:
    """0 to 7; Sunday is 7 as the end of a range."""
    if text.isdigit():
        return int(text)
    if text not in _WEEKDAYS:
        _refuse("schedule", f"{text!r} is no weekday")
    return _WEEKDAYS.index(text) or (7 if ends else 0)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _refuse(field: str, why: str) -> NoReturn:
    raise Invalid(f"{field}: {why}", field=field)
