"""Runs that scripts schedule: ids, times, cancelling, and forged calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from uuid_utils.compat import uuid7

from domain.authz import Principal
from domain.executions import ExecutionDeadLettered, ExecutionSucceeded
from domain.schedule import ExecutionCanceled, ExecutionScheduled
from runtime.sdk.schedule import derived_id
from tests.runtime.world import App, eventually, reply, values

pytestmark = pytest.mark.anyio

JOB = """
def handler(ctx):
    e = ctx.event
    kv.collection("done").set(ctx.execution_id, [e.source, e.op, e.schedule.payload, e.schedule.run_at, ctx.depth, ctx.invocation_type])
"""
LATER = """
def handler(ctx):
    return schedule.at({time}, "job", {{"n": 1}})
"""


async def run(app: App, body: str, **more: Any) -> Any:
    """What a script of these statements answers."""
    script = await app.script(f"def handler(ctx):\n    {body}\n", name=f"s{uuid4().hex[:8]}", **more)
    return await app.run(script)


async def error_of(app: App, body: str) -> str:
    outcome = await run(app, body)
    assert outcome.result.error is not None, outcome
    assert await app.events(ExecutionScheduled) == []
    return f"{outcome.result.error.type}: {outcome.result.error.message}"


async def test_a_script_schedules_a_run_of_another(app: App) -> None:
    await app.script(JOB, name="job")
    outcome = await run(app, "return schedule.at('2026-01-01T00:00:00Z', 'job', {'n': 1})")
    await app.expect(ExecutionSucceeded)
    assert await app.kv("done") == {reply(outcome): ["schedule", "run", {"n": 1}, "2026-01-01T00:00:00Z", 1, "trigger"]}


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("'2090-01-01T01:00:00+01:00'", datetime(2090, 1, 1, tzinfo=UTC)),
        ("3786912000", datetime(2090, 1, 1, tzinfo=UTC)),
        ("3786912000.5", datetime(2090, 1, 1, microsecond=500000, tzinfo=UTC)),
        ("datetime.datetime(2090, 1, 1)", datetime(2090, 1, 1, tzinfo=UTC)),
        ("datetime.datetime(2090, 1, 1, tzinfo=datetime.timezone.utc)", datetime(2090, 1, 1, tzinfo=UTC)),
        ("datetime.datetime(2090, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))", datetime(2090, 1, 1, tzinfo=UTC)),
    ],
)
async def test_times_are_texts_datetimes_or_seconds(app: App, time: str, expected: datetime) -> None:
    await app.script(JOB, name="job")
    outcome = await run(app, f"import datetime; return schedule.at({time}, 'job')")
    scheduled = await app.expect(ExecutionScheduled)
    assert values(scheduled, "run_at") == [expected]
    assert [str(found) for found in values(scheduled, "execution_id")] == [reply(outcome)]
    assert [row["due_at"] for row in await app.outbox()] == [expected]


async def test_a_run_is_due_when_it_was_asked_for(app: App) -> None:
    await app.script(JOB, name="job")
    outcome = await run(app, "import time; return schedule.at(time.time() + 1, 'job')")
    done = await app.expect(ExecutionSucceeded)
    (scheduled,) = await app.expect(ExecutionScheduled)
    assert isinstance(scheduled.event, ExecutionScheduled)
    assert done[0].recorded_at >= scheduled.event.run_at
    assert done[0].recorded_at - outcome.started_at >= timedelta(seconds=1)


async def test_ids_are_those_of_the_execution_and_the_call() -> None:
    execution_id = UUID(str(uuid7()))
    ids = [derived_id(execution_id, number) for number in range(3)]
    assert len(set(ids)) == 3
    assert ids == [derived_id(execution_id, number) for number in range(3)]
    assert {(made.version, made.variant, made.bytes[:6]) for made in ids} == {(7, execution_id.variant, execution_id.bytes[:6])}


async def test_a_run_that_fails_has_scheduled_nothing(app: App) -> None:
    await app.script(JOB, name="job")
    await run(app, "schedule.at(0, 'job'); raise ValueError('no')")
    assert await app.events(ExecutionScheduled) == []


async def test_what_was_scheduled_is_cancelled_once(app: App) -> None:
    await app.script(JOB, name="job")
    made = reply(await run(app, "return [schedule.at(3786912000, 'job', n) for n in range(2)]"))
    assert reply(await run(app, f"return [schedule.cancel({made[0]!r}), schedule.cancel({made[0]!r})]")) == [True, False]
    assert reply(await run(app, f"return [schedule.cancel({made[0]!r}), schedule.cancel('{uuid4()}')]")) == [False, False]
    assert [str(found) for found in values(await app.events(ExecutionCanceled), "execution_id")] == made[:1]
    assert [str(row["id"]) for row in await app.outbox()] == made[1:]


async def test_a_run_cancels_what_it_has_scheduled_itself(app: App) -> None:
    await app.script(JOB, name="job")
    outcome = await run(app, "a = schedule.at(3786912000, 'job'); b = schedule.at(3786912000, 'job'); return [b, schedule.cancel(a), schedule.cancel(a)]")
    kept, *cancelled = reply(outcome)
    assert cancelled == [True, False]
    assert [str(row["id"]) for row in await app.outbox()] == [kept]


async def test_what_has_run_is_not_cancelled(app: App) -> None:
    await app.script(JOB, name="job")
    made = reply(await run(app, "return schedule.at(0, 'job')"))
    await app.expect(ExecutionSucceeded)
    assert reply(await run(app, f"return schedule.cancel({made!r})")) is False


async def test_a_scheduled_run_is_tried_again_and_ends_as_a_dead_letter(app: App) -> None:
    await app.script("def handler(ctx):\n    raise ValueError('no')\n", name="job")
    made = reply(await run(app, "return schedule.at(0, 'job')"))
    (dead,) = await app.expect(ExecutionDeadLettered)
    assert isinstance(dead.event, ExecutionDeadLettered)
    assert (str(dead.event.task.execution_id), dead.event.task.source, dead.event.attempts) == (made, "schedule", 3)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("schedule.at('tomorrow', 'job')", "ValueError: schedule: time: expected an RFC 3339 time"),
        ("schedule.at('2026-01-01T00:00:00', 'job')", "ValueError: schedule: time: expected an RFC 3339 time"),
        ("schedule.at(None, 'job')", "TypeError: schedule: time must be"),
        ("schedule.at(True, 'job')", "TypeError: schedule: time must be"),
        ("schedule.at(float('nan'), 'job')", "ValueError: schedule: time must be"),
        ("schedule.at(1e300, 'job')", "ValueError: schedule: time: no such time"),
        ("schedule.at(10 ** 400, 'job')", "ValueError: schedule: time: no such time"),
        ("schedule.at(0, 'nobody')", "ValueError: schedule: there is no script 'nobody'"),
        ("schedule.at(0, 'lib')", "ValueError: schedule: script 'lib' is a module"),
        ("schedule.at(0, 1)", "TypeError: schedule: script must be str"),
        ("schedule.at(0, 'job', {1, 2})", "TypeError"),
        ("schedule.at(0, 'job', 'x' * 300000)", "ValueError: schedule: payload: 300002 bytes"),
        ("schedule.at(0, 'job', 'a\\x00')", "ValueError: schedule: payload: NUL"),
        ("schedule.cancel(1)", "TypeError: schedule: id must be str"),
        ("schedule.cancel('x')", "ValueError: schedule: id must be one"),
        ("_sys_schedule_id(-1, 0, 'job', 'null')", "ValueError: schedule: an execution schedules at most"),
        ("_sys_schedule_id(True, 0, 'job', 'null')", "ValueError: schedule: an execution schedules at most"),
        ("_sys_schedule_id(0, [], 'job', 'null')", "ValueError: schedule: time must be"),
        ("_sys_schedule_id(0, 0, {}, 'null')", "ValueError: schedule: script must be"),
        ("_sys_schedule_id(0, 0, 'job', 'nul')", "ValueError: schedule: payload: not valid JSON"),
        ("_sys_schedule_id(0, 0, 'job', '[' * 100 + ']' * 100)", "ValueError: schedule: payload: nested deeper"),
        ("_sys_schedule_id(0, 0, 'job', None)", "ValueError: schedule: payload must be JSON"),
        ("_sys_schedule_id()", "TypeError: schedule_id: wrong number of arguments"),
        ("_sys_schedule_pending(b'x')", "ValueError: schedule: id must be one"),
    ],
)
async def test_wrong_and_forged_calls_are_refused(app: App, call: str, error: str) -> None:
    await app.script(JOB, name="job")
    await app.script("X = 1\n", name="lib", kind="module")
    assert (await error_of(app, f"schedule; return {call}")).startswith(error)


FORGED = "[schedule.at(3786912000, 'job'), _picloud['_effects'].append({effect})]"


@pytest.mark.parametrize(
    "effect",
    [
        "('schedule_at', 0, 0, 'job', 'null')",
        "('schedule_at', 7, 'x', 'job', 'null')",
        "('schedule_at', 7, 0, 'nobody', 'null')",
        "('schedule_at', 7)",
        "('schedule_cancel', 'x')",
        "('schedule_cancel',)",
    ],
)
async def test_forged_effects_are_refused_with_all_of_the_run(app: App, effect: str) -> None:
    await app.script(JOB, name="job")
    outcome = await run(app, f"return {FORGED.format(effect=effect)}")
    assert outcome.ending == "raised", outcome
    assert await app.events(ExecutionScheduled) == []


async def test_an_attached_principal_needs_the_capability(app: App) -> None:
    await app.script(JOB, name="job")
    script = await app.script("def handler(ctx):\n    return schedule.at(0, 'job')\n")
    outcome = await app.run(script, principal=Principal(kind="user", id=uuid4()))
    assert outcome.result.error is not None
    assert (outcome.result.error.type, outcome.result.error.message) == ("PermissionError", "schedule: app_execute is required")


async def test_scripts_that_schedule_each_other_come_to_an_end(app: App) -> None:
    await app.script("def handler(ctx):\n    schedule.at(0, 'job')\n", name="job")
    await run(app, "schedule.at(0, 'job')")
    await eventually(app.outbox, lambda rows: not rows)
    assert {recorded.metadata.depth for recorded in await app.events(ExecutionSucceeded)} == set(range(1, 9))
