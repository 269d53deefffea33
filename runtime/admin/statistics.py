"""Statistics of an app, from the read model that is followed: as of a position, with what the log holds beyond it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.clock import Clock
from domain.cursors import parse_day
from domain.errors import Invalid
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("runtime.admin", "statistics.sql")
MAX_DAYS: Final = 92
DEFAULT_DAYS: Final = 30
MAX_SCRIPTS: Final = 100

Row = Mapping[str, Any]


class AsOf(msgspec.Struct, frozen=True, kw_only=True):
    """Everything up to `position` (recorded at `recorded_at`, None before the first event) is counted; `lag_events` more are in the log."""

    position: int
    recorded_at: datetime | None
    lag_events: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Events by topic; ends of queued executions, and of attempts that are tried again, by outcome; dead letters that `arrived`, and their resolutions.

    What never happened has no entry.
    """

    events: dict[str, int]
    executions: dict[str, int]
    dead_letters: dict[str, int]


class Day(Counts, frozen=True, kw_only=True):
    """What was recorded on a day (UTC)."""

    day: date


class ScriptCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Ends of a script's queued executions by outcome, within the asked days."""

    script_id: UUID
    executions: dict[str, int]


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """Key-value entries; bytes of their values' JSON text. An expired entry counts until its expiry is in the log."""

    collections: int
    entries: int
    bytes: int


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """Documents; bytes of their data's JSON text."""

    collections: int
    documents: int
    bytes: int


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Files; bytes of their contents, each counted for itself even where they are the same."""

    collections: int
    files: int
    bytes: int


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What is there now. `topics` are registered ones of every kind."""

    kv: Entries
    docs: Documents
    files: Files
    scripts: int
    routes: int
    triggers: int
    topics: int


class AppStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`totals` are of all time, `days` every day from `from` to `to`, both included, `scripts` the busiest of these days.

    `more_scripts`: there are others.
    """

    as_of: AsOf
    first_day: date = msgspec.field(name="from")
    last_day: date = msgspec.field(name="to")
    totals: Counts
    sizes: Sizes
    days: list[Day]
    scripts: list[ScriptCounts]
    more_scripts: bool


class StatisticsOfApps:
    """The statistics of all apps."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def of(self, app_id: UUID, since: str | None, until: str | None) -> AppStatistics:
        """The statistics of an app over some days, written YYYY-MM-DD. Raises Invalid naming `from` or `to`."""
        first, last = self._days(since, until)
        parts: defaultdict[str, list[Row]] = defaultdict(list)
        for row in await self._reader.fetch(_SQL["statistics"], app_id, first, last, MAX_SCRIPTS + 1):
            parts[row["part"]].append(row)
        scripts = [row for row in parts["script"] if row["second"] <= MAX_SCRIPTS]
        return AppStatistics(
            as_of=_as_of(parts["as_of"][0]),
            first_day=first,
            last_day=last,
            totals=Counts(**_counts(parts["total"])),
            sizes=_sizes(parts["size"]),
            days=_every_day(first, last, parts["day"]),
            scripts=_scripts(scripts),
            more_scripts=len(scripts) < len(parts["script"]),
        )

    def _days(self, since: str | None, until: str | None) -> tuple[date, date]:
        last = self._clock().astimezone(UTC).date() if until is None else parse_day(until, "to")
        first = max(last, date.min + timedelta(DEFAULT_DAYS)) - timedelta(DEFAULT_DAYS - 1) if since is None else parse_day(since, "from")
        if first > last:
            raise Invalid("from: is after `to`", field="from")
        if (last - first).days >= MAX_DAYS:
            raise Invalid(f"from: at most {MAX_DAYS} days can be asked for at once", field="from", max_days=MAX_DAYS)
        return first, last


def _as_of(row: Row) -> AsOf:
    return AsOf(position=row["first"], recorded_at=row["recorded_at"], lag_events=row["second"] - row["first"])


def _counts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {"events": {}, "executions": {}, "dead_letters": {}}
    for row in rows:
        found[row["kind"]][row["name"]] = row["first"]
    return found


def _every_day(first: date, last: date, rows: Iterable[Row]) -> list[Day]:
    by_day: defaultdict[date, list[Row]] = defaultdict(list)
    for row in rows:
        by_day[row["day"]].append(row)
    days = (first + timedelta(number) for number in range((last - first).days + 1))
    return [Day(day=day, **_counts(by_day.get(day, ()))) for day in days]


def _scripts(rows: Sequence[Row]) -> list[ScriptCounts]:
    by_script: defaultdict[UUID, dict[str, int]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row["second"]):
        by_script[row["subject"]][row["name"]] = row["first"]
    return [ScriptCounts(script_id=script_id, executions=counts) for script_id, counts in by_script.items()]


def _sizes(rows: Iterable[Row]) -> Sizes:
    by_kind = {row["kind"]: (row["first"], row["second"], row["third"]) for row in rows}
    nothing = (0, 0, 0)
    entries, documents, files = (by_kind.get(kind, nothing) for kind in ("kv", "docs", "files"))
    return Sizes(
        kv=Entries(entries=entries[0], bytes=entries[1], collections=entries[2]),
        docs=Documents(documents=documents[0], bytes=documents[1], collections=documents[2]),
        files=Files(files=files[0], bytes=files[1], collections=files[2]),
        **{kind: by_kind.get(kind, nothing)[0] for kind in ("scripts", "routes", "triggers", "topics")},
    )
