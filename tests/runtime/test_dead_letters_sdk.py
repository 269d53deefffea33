"""dead_letters for scripts: who may, what it does in the run's own unit, and forged calls."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import anyio
import msgspec
import pytest

from domain.authz import SYSTEM, Principal
from domain.dead_letters import DeadLetterResolved
from domain.executions import ExecutionDeadLettered, ExecutionSucceeded
from domain.kv import SetKey
from runtime.invocation import Outcome
from tests.runtime.world import App, new_app, reply, values

pytestmark = pytest.mark.anyio

FAILS_AT_FIRST = """
def handler(ctx):
    c = kv.collection("state")
    if not c.get("works"):
        raise ValueError("not yet")
    c.set("done", ctx.event.kv.key)
"""


async def run(app: App, body: str, principal: Principal | None = SYSTEM) -> Outcome:
    return await app.run(await app.script(f"def handler(ctx):\n    {body}\n", name=f"s{uuid4().hex[:8]}"), principal)


async def dead(app: App, count: int = 1) -> list[str]:
    """Dead letters' ids."""
    await app.trigger(await app.script(FAILS_AT_FIRST, name="job"), "c")
    await app.append(*(SetKey(collection="c", key=f"k{number}", value=msgspec.Raw(b"1")) for number in range(count)))
    found = await app.expect(ExecutionDeadLettered, count)
    return [str(recorded.event.task.execution_id) for recorded in found if isinstance(recorded.event, ExecutionDeadLettered)]


async def test_a_replay_stands_in_the_runs_own_unit(app: App) -> None:
    (dead_letter,) = await dead(app)
    outcome = await run(app, f"kv.collection('state').set('works', True); return dead_letters.replay('{dead_letter}')")
    (resolved,) = await app.expect(DeadLetterResolved)
    assert isinstance(resolved.event, DeadLetterResolved)
    assert resolved.event.replay is not None
    assert str(resolved.event.replay.execution_id) == reply(outcome)
    assert len({recorded.metadata.unit_id for recorded in outcome.events}) == 1
    await app.expect(ExecutionSucceeded)
    assert (await app.kv("state"))["done"] == "k0"


async def test_a_run_that_fails_resolves_nothing(app: App) -> None:
    (dead_letter,) = await dead(app)
    assert (await run(app, f"dead_letters.resolve('{dead_letter}', 'why'); raise ValueError('no')")).ending == "raised"
    assert await app.events(DeadLetterResolved) == []


async def test_what_was_resolved_is_listed_no_more(app: App) -> None:
    first, second = sorted(await dead(app, 2))
    listed = "[d['id'] for d in dead_letters.list({f})]"
    body = f"a = {listed.format(f='')}; dead_letters.resolve('{first}', ' why '); return [a, {listed.format(f='')}, {listed.format(f={'unresolved': False})}]"
    assert reply(await run(app, body)) == [[second, first], [second], [second, first]]
    assert reply(await run(app, f"return [{listed.format(f='')}, {listed.format(f={'source': 'cron'})}, {listed.format(f={'limit': 1})}]")) == [
        [second],
        [],
        [second],
    ]
    assert values(await app.events(DeadLetterResolved), "reason") == ["why"]
    shown = reply(await run(app, "return dead_letters.list({'unresolved': False})"))[1]
    assert (shown["resolution"], shown["attempts"], shown["last_error"]["message"], shown["source"]) == ("ignored", 3, "not yet", "kv")


async def test_two_runs_resolve_one_dead_letter_once(app: App) -> None:
    (dead_letter,) = await dead(app)
    outcomes: list[Outcome] = []

    async def resolve() -> None:
        outcomes.append(await run(app, f"dead_letters.resolve('{dead_letter}', 'why')"))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(resolve)
    assert sorted(outcome.ending for outcome in outcomes) == ["raised"] * 3 + ["returned"]
    assert len(await app.events(DeadLetterResolved)) == 1


@pytest.mark.parametrize("principal", [None, Principal(kind="user", id=UUID(int=1))])
@pytest.mark.parametrize("call", ["list()", "replay('{id}')", "resolve('{id}', 'x')"])
async def test_it_takes_somebody_with_the_capability(app: App, call: str, principal: Principal | None) -> None:
    outcome = await run(app, f"dead_letters.{call.format(id=uuid4())}", principal)
    assert outcome.result.error is not None
    assert (outcome.result.error.type, outcome.result.error.message) == ("PermissionError", "dead_letters: app_dead_letters_manage is required")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("dead_letters.replay('{dead}'); dead_letters.resolve('{dead}', 'x')", "ValueError: dead_letters: this dead letter was resolved already"),
        ("dead_letters.replay('{none}')", "KeyError"),
        ("dead_letters.replay(1)", "TypeError: dead_letters: id must be str"),
        ("dead_letters.replay('x')", "ValueError: dead_letters: id must be an id"),
        ("dead_letters.resolve('{dead}', '')", "ValueError: dead_letters: reason: 1 to 1000"),
        ("dead_letters.resolve('{dead}', 'a\\x00')", "ValueError: dead_letters: reason: NUL"),
        ("dead_letters.resolve('{dead}', 5)", "TypeError: dead_letters: reason must be"),
        ("dead_letters.list({{'x': 1}})", "ValueError: dead_letters: filter must be"),
        ("dead_letters.list({{'limit': 0}})", "ValueError: dead_letters: limit must be"),
        ("dead_letters.list({{'limit': 10 ** 30}})", "ValueError: dead_letters: limit must be"),
        ("dead_letters.list({{'source': 5}})", "ValueError: dead_letters: source must be"),
        ("dead_letters.list({{'unresolved': 1}})", "ValueError: dead_letters: unresolved must be"),
        ("dead_letters.list({{'script_id': 'x'}})", "ValueError: dead_letters: script_id must be an id"),
        ("dead_letters.list(5)", "TypeError: dead_letters: filter must be dict"),
        ("dead_letters; _sys_dead_letters_replay(-1, '{dead}')", "ValueError: dead_letters: an execution replays"),
        ("dead_letters; _sys_dead_letters_list(None)", "ValueError: dead_letters: filter must be"),
        ("dead_letters.list(); _picloud['_effects'].append(('dead_letters_change', '{dead}'))", "ValueError: dead_letters: nothing was prepared"),
        ("dead_letters.replay('{dead}'); _picloud['_effects'].append(('dead_letters_change', '{dead}'))", "ValueError: dead_letters: nothing was prepared"),
    ],
)
async def test_wrong_and_forged_calls_change_nothing(app: App, call: str, error: str) -> None:
    (dead_letter,) = await dead(app)
    outcome = await run(app, call.format(dead=dead_letter, none=uuid4()))
    assert outcome.result.error is not None, outcome
    assert f"{outcome.result.error.type}: {outcome.result.error.message}".startswith(error)
    assert await app.events(DeadLetterResolved) == []


async def test_another_apps_dead_letter_is_not_there(app: App) -> None:
    (dead_letter,) = await dead(app)
    other = await new_app(app.platform)
    outcome: Any = await run(other, f"dead_letters.replay('{dead_letter}')")
    assert outcome.result.error.type == "KeyError"
