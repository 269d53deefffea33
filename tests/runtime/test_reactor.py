"""What the outbox makes of events: triggers, retries, dead letters, skips, shares."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.dead_letters import DeadLetterResolved, ResolveDeadLetter
from domain.executions import ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded, Task, dead_letter_pattern
from domain.kv import DeleteKey, SetKey
from domain.retry import RetryPolicy
from domain.scripts import ScriptDeleted, script_stream
from domain.triggers import TriggerDeleted, TriggerSaved, trigger_stream
from domain.units import Record
from runtime.platform import Platform
from tests.runtime.world import App, eventually, new_app, values

pytestmark = pytest.mark.anyio

SEEN = """
def handler(ctx):
    e = ctx.event.kv
    kv.collection("seen").set(ctx.execution_id, [ctx.event.version, ctx.event.op, e.key, e.value, e.prev, ctx.depth])
"""
FAIL = "def handler(ctx):\n    raise ValueError('no')\n"
OK = "def handler(ctx):\n    pass\n"
ECHO = """
def handler(ctx):
    c = kv.collection("chain")
    c.set("n", ctx.event.kv.value + 1)
"""


def put(key: str, value: Any, collection: str = "c", ttl_s: float | None = None) -> SetKey:
    return SetKey(collection=collection, key=key, value=msgspec.Raw(msgspec.json.encode(value)), ttl_s=ttl_s)


async def test_a_trigger_sees_each_change_with_its_value_and_the_one_before(app: App) -> None:
    await app.trigger(await app.script(SEEN), "c")
    await app.append(put("k", 1), put("k", 2), put("k", 3), DeleteKey(collection="c", key="k"), put("k", 4))
    await app.append(DeleteKey(collection="c", key="k"))
    await app.append(put("k", {"a": None}))
    await app.expect(ExecutionSucceeded, 7)
    assert sorted((await app.kv("seen")).values()) == [
        [1, "insert", "k", 1, None, 1],
        [2, "update", "k", 2, 1, 1],
        [3, "update", "k", 3, 2, 1],
        [4, "delete", "k", None, 3, 1],
        [5, "insert", "k", 4, None, 1],
        [6, "delete", "k", None, 4, 1],
        [7, "insert", "k", {"a": None}, None, 1],
    ]


async def test_an_expiry_is_a_delete_to_a_trigger(app: App) -> None:
    await app.trigger(await app.script(SEEN), "c", ops=("delete",))
    await app.append(put("k", "soon gone", ttl_s=0.05))
    await app.expect(ExecutionSucceeded)
    assert list((await app.kv("seen")).values()) == [[2, "delete", "k", None, "soon gone", 1]]


async def test_ops_and_globs_filter(app: App) -> None:
    script = await app.script(SEEN)
    await app.trigger(script, "orders*", ops=("insert",))
    await app.trigger(script, "exact")
    await app.append(put("a", 1, "orders"), put("a", 2, "orders"), put("b", 3, "orders-eu"), put("c", 4, "order"), put("d", 5, "exactly"), put("e", 6, "exact"))
    await app.expect(ExecutionSucceeded, 3)
    await app.drained()
    assert sorted(row[3] for row in (await app.kv("seen")).values()) == [1, 3, 6]


async def test_a_failing_run_is_retried_by_its_policy_then_a_dead_letter(app: App) -> None:
    script = await app.script(FAIL)
    trigger = await app.trigger(script, "c", retry=RetryPolicy(max_attempts=3, backoff="linear", base_ms=50, jitter_pct=0))
    await app.append(put("k", 1))
    (dead,) = await app.expect(ExecutionDeadLettered)
    failed = await app.events(ExecutionFailed)
    waits = [(each.event.retry_at - each.recorded_at).total_seconds() for each in failed]  # type: ignore[attr-defined]
    assert values(failed, "attempt") == [1, 2]
    assert values(failed, "next_attempt") == [2, 3]
    assert waits == pytest.approx([0.05, 0.1], abs=0.045)
    assert isinstance(dead.event, ExecutionDeadLettered)
    assert (dead.event.attempts, dead.event.error.type, dead.event.error.message) == (3, "ValueError", "no")
    assert dead.event.task.trigger_id == trigger.id
    assert await app.outbox() == []
    assert {each.stream for each in failed} == {dead.stream}


async def test_a_dead_letter_handler_resolves_it(app: App) -> None:
    failing = await app.script(FAIL)
    handler = await app.script(
        "def handler(ctx):\n    d = ctx.event.dead_letter\n"
        "    kv.collection('h').set('x', [ctx.event.op, d.attempts, d.last_error['message'], d.script_id, d.original['source']])\n",
        name="handler",
    )
    await app.trigger(failing, "c", retry=RetryPolicy(max_attempts=1))
    await app.trigger(handler, source="dead_letter", pattern=dead_letter_pattern(None, None, None))
    await app.append(put("k", 1))
    await app.expect(DeadLetterResolved)
    assert values(await app.events(DeadLetterResolved), "resolution") == ["handled_by_script"]
    assert (await app.kv("h"))["x"] == ["dead_letter", 1, "no", str(failing), "kv"]


async def test_a_failing_dead_letter_handler_is_not_retried_and_never_recurses(app: App) -> None:
    script = await app.script(FAIL)
    await app.trigger(script, "c", retry=RetryPolicy(max_attempts=1))
    await app.trigger(script, source="dead_letter", pattern=dead_letter_pattern("kv", None, None), retry=RetryPolicy(max_attempts=5))
    await app.append(put("k", 1))
    await app.expect(DeadLetterResolved)
    await app.drained()
    assert values(await app.events(DeadLetterResolved), "resolution") == ["handler_failed"]
    assert len(await app.events(ExecutionDeadLettered)) == 1
    assert values(await app.events(ExecutionFailed), "retry_at") == [None]


async def test_a_replay_keeps_its_depth_and_sees_the_same_event(app: App) -> None:
    script = await app.script("def handler(ctx):\n    if not kv.collection('on').has('x'):\n        raise ValueError('off')\n" + SEEN.split("\n", 2)[2])
    await app.trigger(script, "c", retry=RetryPolicy(max_attempts=1))
    await app.append(put("k", "old"), depth=3)
    await app.append(put("k", "new"), depth=3)
    for dead in await app.expect(ExecutionDeadLettered, 2):
        assert dead.metadata.depth == 4
    await app.append(put("x", 1, "on"))
    second = (await app.events(ExecutionDeadLettered))[1].event
    last = max(await app.events(ExecutionDeadLettered), key=lambda each: each.event.task.cause_position)  # type: ignore[attr-defined]
    assert isinstance(second, ExecutionDeadLettered)
    assert isinstance(last.event, ExecutionDeadLettered)
    again = Task(**{**msgspec.structs.asdict(last.event.task), "execution_id": uuid7()})
    await app.append(ResolveDeadLetter(dead_letter_id=last.event.task.execution_id, resolution="replayed", replay=again))
    (done,) = await app.expect(ExecutionSucceeded)
    assert done.metadata.depth == 4
    assert list((await app.kv("seen")).values()) == [[2, "update", "k", "new", "old", 4]]


async def test_a_chain_ends_at_depth_eight(app: App) -> None:
    await app.trigger(await app.script(ECHO), "chain")
    await app.append(put("n", 0, "chain"))
    (skipped,) = await app.expect(ExecutionSkipped)
    assert values([skipped], "reason") == ["depth"]
    await app.drained()
    assert await app.kv("chain") == {"n": 8}
    assert await app.events(ExecutionDeadLettered) == []
    assert len({recorded.metadata.correlation_id for recorded in await app.events(ExecutionSucceeded, ExecutionSkipped)}) == 1


async def test_rows_whose_script_trigger_or_registrant_is_gone_are_skipped(app: App) -> None:
    keeps, goes = await app.script(OK), await app.script(OK, name="goes")
    module = await app.script("X = 1\n", name="module", kind="module")
    triggers = {
        "script_deleted": await app.trigger(goes, "c"),
        "trigger_deleted": await app.trigger(keeps, "c"),
        "trigger_disabled": await app.trigger(keeps, "c"),
        "registrant_inactive": await app.trigger(keeps, "c", registrant=f"user:{uuid4()}"),
        "not_an_endpoint": await app.trigger(module, "c"),
    }
    disabled = TriggerSaved(trigger=msgspec.structs.replace(triggers["trigger_disabled"], enabled=False))
    deleted = TriggerDeleted(trigger_id=triggers["trigger_deleted"].id)
    # In one unit, so that no row can be dispatched before all of it holds.
    await app.append(
        put("k", 1),
        *(
            _record(name, event)
            for name, event in (
                (script_stream(goes), ScriptDeleted(script_id=goes, name="goes")),
                (trigger_stream(deleted.trigger_id), deleted),
                (trigger_stream(disabled.trigger.id), disabled),
            )
        ),
    )
    skipped = await app.expect(ExecutionSkipped, 5)
    assert {each.event.reason: each.event.task.trigger_id for each in skipped} == {reason: trigger.id for reason, trigger in triggers.items()}  # type: ignore[attr-defined]
    assert await app.outbox() == []


def _record(name: str, event: Any) -> Any:
    return Record(name=name, event=event)


@pytest.mark.alone
async def test_a_busy_app_does_not_keep_the_others_waiting(app: App, platform: Platform) -> None:
    slow = await app.script("def handler(ctx):\n    n = 0\n    while n < 60000:\n        n += 1\n", timeout_s=20)
    await app.trigger(slow, "c")
    for batch in range(5):
        await app.append(*(put(f"{batch}-{number}", 1) for number in range(100)))
    await eventually(app.outbox, lambda rows: any(row["worker_id"] is not None for row in rows))
    other = await new_app(platform)
    await other.trigger(await other.script(SEEN), "c")
    began = time.perf_counter()
    await other.append(put("k", 1))
    await other.expect(ExecutionSucceeded)
    waited_s = time.perf_counter() - began
    left = len(await app.outbox())
    assert left > 250, f"the busy app was done too soon to show anything: {left}"
    assert waited_s < 1.0
    await app.append(_switched_off(await _only_trigger(app)))
    await app.drained()


async def _only_trigger(app: App) -> Any:
    return values(await app.events(TriggerSaved), "trigger")[0]


def _switched_off(trigger: Any) -> Any:
    return _record(trigger_stream(trigger.id), TriggerSaved(trigger=msgspec.structs.replace(trigger, enabled=False)))


async def test_the_rows_of_a_closed_app_are_nobodys_work(app: App, platform: Platform) -> None:
    script = await app.script(FAIL)
    await app.trigger(script, "c", retry=RetryPolicy(max_attempts=3, backoff="constant", base_ms=300, jitter_pct=0))
    await app.append(put("k", 1))
    await app.expect(ExecutionFailed)
    await platform.log.close_app(app.id)
    head = await platform.log.head(app.id)
    other = await new_app(platform)
    await other.trigger(await other.script(OK), "c")
    await other.append(put("k", 1))
    await other.expect(ExecutionSucceeded)
    rows = await eventually(app.outbox, lambda rows: rows[0]["due_at"] <= platform.clock())
    assert [row["worker_id"] for row in rows] == [None]
    assert await platform.log.head(app.id) == head


async def test_a_row_that_nobody_can_read_stops_no_other(app: App, platform: Platform) -> None:
    """As after a step back to an older program: an event of an unknown topic must not end the reactor, nor what takes rows back from the dead."""
    script = await app.script(SEEN)
    await app.trigger(script, "c")
    dead_worker, odd = uuid7(), uuid7()
    await platform.pool.execute(
        "INSERT INTO outbox (app_id, id, cause_position, source, script_id, due_at, attempt, worker_id, fence)"
        " SELECT $1, i, 999999, 'kv', $2, clock_timestamp(), 1, w, 1 FROM unnest($3::uuid[], $4::uuid[]) AS u (i, w)",
        app.id,
        script,
        [odd, uuid7()],
        [None, dead_worker],
    )
    await app.append(put("k", 1))
    await app.expect(ExecutionSucceeded)
    await app.append(put("k", 2))
    await app.expect(ExecutionSucceeded, 2)
    rows = await app.outbox()
    assert odd in {row["id"] for row in rows}
    await platform.pool.execute("DELETE FROM outbox WHERE app_id = $1", app.id)
