"""Ticks: one for each time however many processes there are, and what becomes of those that were missed or overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
from uuid_utils.compat import uuid7

from domain.cron import Ticked, TickSkipped, cron_stream
from domain.errors import AlreadyExists
from domain.events import Event, Metadata
from domain.executions import ExecutionSkipped, ExecutionSucceeded
from domain.triggers import Trigger, TriggerDeleted, TriggerSaved, trigger_stream
from domain.units import ABSENT, Change, Record, Unit
from runtime.admin.trigger_kinds import KINDS
from runtime.admin.trigger_kinds.cron import CronTriggerSpec
from runtime.admin.triggers import Triggers
from runtime.admin.writing import Acting, AdminWriter
from tests.runtime.world import App, eventually, new_app, running, values

pytestmark = pytest.mark.anyio

EVERY_SECOND = "* * * * * *"
SEEN = """
def handler(ctx):
    e = ctx.event
    c = e.cron
    kv.collection("seen").set(c.scheduled_at, [e.source, e.op, c.schedule, c.timezone, c.fired_at[:16] >= c.scheduled_at[:16], ctx.depth, ctx.invocation_type])
"""
OK = "def handler(ctx):\n    pass\n"


async def schedule(app: App, script_id: UUID, due_at: datetime, text: str = EVERY_SECOND, *, overlap: str = "skip", timezone: str = "UTC") -> Trigger:
    """A cron trigger whose schedule is due at a time."""
    trigger = cron_trigger(script_id, text, overlap=overlap, timezone=timezone)
    await app.put((trigger_stream(trigger.id), TriggerSaved(trigger=trigger, next_due_at=due_at)))
    return trigger


def cron_trigger(script_id: UUID, text: str, *, overlap: str = "skip", timezone: str = "UTC", enabled: bool = True) -> Trigger:
    detail: dict[str, Any] = {"schedule": text, "timezone": timezone, "overlap": overlap}
    retry = CronTriggerSpec(script_id=script_id, schedule=text).retry
    return Trigger(id=uuid7(), source="cron", script_id=script_id, enabled=enabled, ops=(), pattern="", retry=retry, registrant="system", detail=detail)


async def stop(app: App, trigger: Trigger) -> None:
    await app.put((trigger_stream(trigger.id), TriggerDeleted(trigger_id=trigger.id)))


async def row(app: App, trigger: Trigger) -> dict[str, Any]:
    found = await app.platform.pool.fetchrow("SELECT * FROM schedules WHERE app_id = $1 AND trigger_id = $2", app.id, trigger.id)
    return {} if found is None else dict(found)


def soon() -> datetime:
    """The next whole second."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)


async def at_least(app: App, kind: type[Event], count: int) -> list[Any]:
    return [recorded.event for recorded in await eventually(lambda: app.events(kind), lambda found: len(found) >= count)]


async def test_a_tick_runs_its_script_at_its_time(app: App) -> None:
    due = soon()
    trigger = await schedule(app, await app.script(SEEN), due)
    ticks = await at_least(app, Ticked, 2)
    await stop(app, trigger)
    assert ticks[0].scheduled_at == max(due, ticks[0].fired_at.replace(microsecond=0))
    assert [tick.next_due_at for tick in ticks[:-1]] <= [tick.scheduled_at for tick in ticks[1:]]
    assert all(tick.scheduled_at <= tick.fired_at < tick.next_due_at for tick in ticks)
    await eventually(lambda: app.kv("seen"))
    first = min((await app.kv("seen")).items())
    assert first == (ticks[0].scheduled_at.isoformat().replace("+00:00", "Z"), ["cron", "tick", EVERY_SECOND, "UTC", True, 1, "trigger"])
    assert {recorded.event.task.execution_id for recorded in await app.events(ExecutionSucceeded)} <= {tick.execution_id for tick in ticks}  # type: ignore[attr-defined]


async def test_there_is_one_tick_for_each_time_however_many_processes_run(dsn: str) -> None:
    async with running(dsn) as first, running(dsn), running(dsn):
        app = await new_app(first)
        script = await app.script(OK)
        triggers = [await schedule(app, script, soon(), overlap="queue") for _ in range(5)]
        await at_least(app, Ticked, 15)
        for trigger in triggers:
            await stop(app, trigger)
        ticks = [recorded.event for recorded in await app.events(Ticked) if isinstance(recorded.event, Ticked)]
        assert len({(tick.trigger_id, tick.scheduled_at) for tick in ticks}) == len(ticks)
        await app.drained()
        assert len(await app.events(ExecutionSucceeded, ExecutionSkipped)) == len(ticks)


async def test_missed_times_fire_once(app: App) -> None:
    long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    trigger = await schedule(app, await app.script(OK), long_ago, "0 * * * * *")
    (tick,) = await at_least(app, Ticked, 1)
    await stop(app, trigger)
    assert timedelta(0) <= tick.fired_at - tick.scheduled_at < timedelta(minutes=1)
    assert tick.scheduled_at.second == 0
    assert tick.next_due_at == tick.scheduled_at + timedelta(minutes=1)


async def test_a_tick_during_a_run_is_skipped_and_says_so(app: App) -> None:
    script = await app.script("def handler(ctx):\n    n = 0\n    while n < 3 * 10 ** 7:\n        n += 1\n", timeout_s=2.5)
    trigger = await schedule(app, script, soon())
    skipped = await at_least(app, TickSkipped, 1)
    assert (skipped[0].reason, skipped[0].trigger_id) == ("overlap", trigger.id)
    standing = await eventually(lambda: row(app, trigger), lambda found: found["last_skip_reason"] == "overlap")
    await stop(app, trigger)
    assert standing["last_execution_id"] is None
    assert await row(app, trigger) == {}


async def test_ticks_of_overlap_queue_wait(app: App) -> None:
    script = await app.script("def handler(ctx):\n    n = 0\n    while n < 3 * 10 ** 7:\n        n += 1\n", timeout_s=2.5)
    trigger = await schedule(app, script, soon(), overlap="queue")
    await at_least(app, Ticked, 3)
    await stop(app, trigger)
    assert await app.events(TickSkipped) == []


async def test_a_schedule_in_a_zone_that_is_gone_stops_and_says_so(app: App) -> None:
    trigger = await schedule(app, await app.script(OK), soon() - timedelta(minutes=1), timezone="Atlantis/City")
    (skipped,) = await at_least(app, TickSkipped, 1)
    assert (skipped.reason, skipped.next_due_at) == ("no_such_timezone", None)
    assert (await row(app, trigger))["next_due_at"] is None


async def test_a_tick_of_a_trigger_that_was_changed_meanwhile_is_refused(app: App) -> None:
    trigger = await schedule(app, await app.script(OK), soon() + timedelta(hours=1))
    standing = await row(app, trigger)
    assert (standing["trigger_version"], standing["tick_version"]) == (1, 0)
    later = soon() + timedelta(hours=2)
    await app.put((trigger_stream(trigger.id), TriggerSaved(trigger=trigger, next_due_at=later)))
    standing = await row(app, trigger)
    assert (standing["trigger_version"], standing["next_due_at"]) == (2, later)


async def test_a_change_of_other_fields_keeps_a_missed_time(app: App) -> None:
    """The time is kept only if the trigger has not ticked meanwhile: the unit has read that."""
    platform = app.platform
    admin = Triggers(platform.reader, AdminWriter(platform.appender, platform.clock, platform.directory.passed), platform.clock)
    kind, acting = KINDS["cron"], Acting("system")
    script = await app.script(OK)
    stored = await admin.create(app.id, kind, CronTriggerSpec(script_id=script, schedule="0 0 0 1 1 *"), acting)
    due = (await row(app, stored.trigger))["next_due_at"]
    assert (due.month, due.day) == (1, 1)
    decode = lambda fields, shape: shape(**{**fields, "script_id": script, "retry": stored.trigger.retry})  # noqa: E731
    changed = await admin.update(app.id, stored.trigger.id, {"overlap": "queue"}, decode, acting)
    assert (await row(app, stored.trigger))["next_due_at"] == due
    assert changed.trigger.detail["overlap"] == "queue"
    await admin.update(app.id, stored.trigger.id, {"enabled": False}, decode, acting)
    assert (await row(app, stored.trigger))["next_due_at"] is None
    await admin.update(app.id, stored.trigger.id, {"enabled": True, "schedule": "0 0 0 2 1 *"}, decode, acting)
    assert (await row(app, stored.trigger))["next_due_at"].day == 2
    await admin.delete(app.id, stored.trigger.id, acting)
    assert await row(app, stored.trigger) == {}


async def test_a_tick_expects_the_version_of_its_stream(app: App) -> None:
    """Two processes that found the same time due: the second one's unit is refused by the log, whatever lock they held."""
    trigger = await schedule(app, await app.script(OK), soon() - timedelta(seconds=1), "0 0 0 1 1 *")
    await at_least(app, Ticked, 1)
    with pytest.raises(AlreadyExists):
        await app.platform.log.append(_second_tick(app, trigger))
    assert len(await app.events(Ticked)) == 1


def _second_tick(app: App, trigger: Trigger) -> Unit:
    change = Change(Record(name=cron_stream(trigger.id), event=_tick_of(trigger)), ABSENT)
    return Unit(app_id=app.id, metadata=Metadata(unit_id=uuid7()), now=datetime.now(UTC), changes=(change,))


def _tick_of(trigger: Trigger) -> Ticked:
    now = datetime.now(UTC)
    return Ticked(
        trigger_id=trigger.id, script_id=trigger.script_id, execution_id=uuid7(), schedule="", timezone="", scheduled_at=now, fired_at=now, next_due_at=None
    )


async def test_a_new_trigger_wakes_a_scheduler_that_waits_for_another_time(app: App) -> None:
    await schedule(app, await app.script(OK), soon() + timedelta(minutes=1), "0 0 0 1 1 *")
    with anyio.fail_after(10):
        trigger = await schedule(app, await app.script(OK, name="b"), soon(), "0 0 0 1 1 *")
        (tick,) = await at_least(app, Ticked, 1)
    assert tick.trigger_id == trigger.id
    assert values(await app.events(Ticked), "trigger_id") == [trigger.id]


async def test_one_schedule_that_does_not_stand_any_more_keeps_no_other_from_ticking(app: App) -> None:
    """Ticks of one app are one unit; here one of them expects what is not so, which only it must feel."""
    script = await app.script(OK)
    later = soon() + timedelta(hours=1)
    first, second = [await schedule(app, script, later, "0 0 0 1 1 *") for _ in range(2)]
    await app.append(Record(name=cron_stream(first.id), event=_tick_of(first)))  # a tick that the row below knows nothing of
    await app.platform.pool.execute("UPDATE schedules SET tick_version = 0, next_due_at = $2 WHERE app_id = $1", app.id, soon() - timedelta(hours=1))
    app.platform.cron.wake()
    await eventually(lambda: app.events(Ticked), lambda found: len(found) == 2)
    assert values(await app.events(Ticked), "trigger_id") == [first.id, second.id]
    await stop(app, first)


async def test_an_app_whose_head_is_held_delays_nobody_elses_ticks(app: App) -> None:
    """The head is held until the other app has ticked, twice; then the first one ticks too."""
    other, pool = await new_app(app.platform), app.platform.pool
    scripts = await app.script(OK), await other.script(OK)
    later = soon() + timedelta(hours=1)
    held, free = await schedule(app, scripts[0], later, "0 0 0 1 1 *"), await schedule(other, scripts[1], later, "0 0 0 1 1 *")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM log_head WHERE app_id = $1 FOR UPDATE", app.id)
        await pool.execute("UPDATE schedules SET next_due_at = $2 WHERE app_id = ANY ($1)", [app.id, other.id], soon() - timedelta(hours=1))
        app.platform.cron.wake()
        assert values(await other.expect(Ticked, within_s=5), "trigger_id") == [free.id]
        again = await schedule(other, scripts[1], soon() - timedelta(seconds=5), "0 0 0 1 1 *")
        assert values(await other.expect(Ticked, 2, within_s=5), "trigger_id") == [free.id, again.id]
        assert await app.events(Ticked) == []
    assert values(await app.expect(Ticked), "trigger_id") == [held.id]
