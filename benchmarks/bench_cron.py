"""How far cron's ticks drift: the time from when a schedule is due until its tick is committed, with many schedules due at the same instant.

Every schedule is due once in a round, at the same second, which is the worst that a minute can hold. `fired` is when the scheduler decided, `committed` when
the tick's event was recorded, both after the due time. What is ticked is not run: no reactor is there. Each round ends with a check that every schedule has
ticked exactly once, at its time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import msgspec
import psutil
from uuid_utils.compat import uuid7

from benchmarks.common import Series, Table, arguments, open_database, open_server, report
from benchmarks.load import Found, cpu, in_turns, postmaster_of, run, share, values
from domain.cron import Ticked
from domain.events import Metadata, Recorded
from domain.retry import RetryPolicy
from domain.triggers import Trigger, TriggerSaved, trigger_stream
from domain.units import Change, Record, Unit
from runtime.platform import Platform, open_platform
from runtime.settings import Process, Settings

_COLUMNS = ["schedules", "apps", "fired p50 ms", "p99", "committed p50 ms", "p99", "max", "CPU ms a tick"]
_AHEAD_S = 3
_WITHIN_S = 120
_YEARLY = "0 0 0 1 1 *"


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How many schedules, over how many apps."""

    cells: tuple[tuple[int, int], ...] = ((1, 1), (1_000, 1), (10_000, 1), (10_000, 100))


class _Ticks:
    """The ticks that were committed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.found: list[Recorded] = []
        self.all = anyio.Event()

    def committed(self, events: Sequence[Recorded], counts: dict[str, int]) -> None:
        del counts
        self.found += [recorded for recorded in events if isinstance(recorded.event, Ticked)]
        if len(self.found) >= self._count:
            self.all.set()


async def measure_one(server: str, schedules: int, apps: int) -> dict[str, float]:
    """One instant at which all of them are due, on a platform of its own."""
    settings = Settings(process=Process(roles=("scheduler",)))
    async with open_database(server) as dsn, open_platform(dsn, settings) as platform:
        app_ids = [UUID(str(uuid7())) for _ in range(apps)]
        far = datetime.now(UTC) + timedelta(days=100)
        ids = await _save_all(platform, app_ids, schedules, far)
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=_AHEAD_S)
        ticks = _Ticks(schedules)
        platform.log.on_commit(ticks.committed)
        await platform.pool.execute("UPDATE schedules SET next_due_at = $1", due)
        platform.cron.wake()
        before = cpu(psutil.Process(), postmaster_of(server))
        with anyio.fail_after(_WITHIN_S):
            await ticks.all.wait()
        spent = cpu(psutil.Process(), postmaster_of(server)).since(before)
        return _drift(ticks.found, due, ids) | {"CPU ms a tick": spent.each_ms(schedules)["cpu"]}


def _drift(ticks: list[Recorded], due: datetime, ids: list[UUID]) -> dict[str, float]:
    events = [recorded.event for recorded in ticks if isinstance(recorded.event, Ticked)]
    assert sorted(event.trigger_id for event in events) == sorted(ids), "each schedule ticks once"
    assert {event.scheduled_at for event in events} == {due}, "at its time"
    fired = sorted((event.fired_at - due).total_seconds() * 1000 for event in events)
    committed = sorted((recorded.recorded_at - due).total_seconds() * 1000 for recorded in ticks)
    return {
        "fired p50 ms": statistics.median(fired),
        "fired p99 ms": fired[int(len(fired) * 0.99)],
        "committed p50 ms": statistics.median(committed),
        "committed p99 ms": committed[int(len(committed) * 0.99)],
        "committed max ms": committed[-1],
    }


async def _save_all(platform: Platform, app_ids: list[UUID], schedules: int, due: datetime) -> list[UUID]:
    ids: list[UUID] = []

    async def save(number: int) -> None:
        ids.append(await _save(platform, app_ids[number % len(app_ids)], due))

    await share(range(schedules), save)
    return ids


async def _save(platform: Platform, app_id: UUID, due: datetime) -> UUID:
    detail: dict[str, Any] = {"schedule": _YEARLY, "timezone": "Europe/Berlin", "overlap": "queue"}
    trigger = Trigger(id=uuid7(), source="cron", script_id=uuid7(), enabled=True, ops=(), pattern="", retry=RetryPolicy(), registrant="system", detail=detail)
    change = Change(Record(name=trigger_stream(trigger.id), event=TriggerSaved(trigger=trigger, next_due_at=due)))
    await platform.log.append(Unit(app_id=app_id, metadata=Metadata(unit_id=uuid7()), now=platform.clock(), changes=(change,)))
    return trigger.id


async def measure(server: str, rounds: int, size: Size) -> list[Table]:
    cells = {f"{schedules:,}/{apps:,}": partial(measure_one, server, schedules, apps) for schedules, apps in size.cells}
    begun = time.perf_counter()
    found = await in_turns(rounds, cells)
    title = f"cron: drift of ticks that are all due at one instant ({time.perf_counter() - begun:.0f} s)"
    return [Table(title, _COLUMNS, _rows(found), values(found))]


def _rows(found: Found) -> list[list[str]]:
    names = ("fired p50 ms", "fired p99 ms", "committed p50 ms", "committed p99 ms", "committed max ms", "CPU ms a tick")
    return [[*cell.split("/"), *(_shown(series[name]) for name in names)] for cell, series in found.items()]


def _shown(series: Series) -> str:
    return f"{series.median:,.1f}"


def main() -> None:
    asked = arguments(__doc__ or "")
    with open_server() as server:
        report("cron", run(measure, server, asked.rounds, Size()), asked.json)


if __name__ == "__main__":
    main()
