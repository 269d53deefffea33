"""One app's endless scripts leave room for the others, and end with their script."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from domain.executions import ExecutionFailed, ExecutionSkipped, ExecutionSucceeded
from domain.kv import SetKey
from domain.scripts import ScriptDeleted, script_stream
from runtime.platform import Platform
from tests.runtime.world import App, eventually, new_app, reply, values

pytestmark = pytest.mark.anyio

LOOP = "def handler(ctx):\n    while True: pass\n"
ONE = "def handler(ctx):\n    return 1\n"
ROWS = 40


def put(key: str) -> SetKey:
    return SetKey(collection="c", key=key, value=msgspec.Raw(b"1"), ttl_s=None)


async def wants_more(platform: Platform, runs_at_least: int = 1) -> None:
    """Return once so many runs wait for a seat."""

    async def waiting() -> int:
        return platform.executor.shares.waiting

    await eventually(waiting, lambda runs: runs >= runs_at_least)


async def test_what_waits_for_a_deleted_script_does_not_run(app: App, platform: Platform) -> None:
    loop = await app.script(LOOP, timeout_s=1.5)
    await app.trigger(loop, "c")
    await app.append(*(put(str(number)) for number in range(ROWS)))
    await wants_more(platform)
    await app.put((script_stream(loop), ScriptDeleted(script_id=loop, name="main")))
    await app.drained(within_s=10)
    ran = await app.events(ExecutionFailed)
    assert {*values(ran, "attempt")} == {1}
    assert len(ran) <= platform.executor.shares.queued_per_app, "only those that had a seat already"
    assert values(await app.events(ExecutionSkipped), "reason") == ["script_deleted"] * ROWS


@pytest.mark.alone
async def test_an_endless_app_keeps_no_other_waiting(app: App, platform: Platform) -> None:
    loop = await app.script(LOOP, timeout_s=10)
    await app.trigger(loop, "c")
    await app.append(*(put(str(number)) for number in range(ROWS)))
    other = await new_app(platform)
    one = await other.script(ONE)
    await other.trigger(one, "c")
    async with anyio.create_task_group() as callers:
        for _ in range(ROWS):
            callers.start_soon(app.run, loop)
        await wants_more(platform, ROWS - platform.executor.shares.queued_per_app)
        for number in range(3):
            with anyio.fail_after(3):
                assert reply(await other.run(one)) == 1
            await other.append(put(str(number)))
            await other.expect(ExecutionSucceeded, number + 1, within_s=3)
        assert platform.executor.shares.waiting >= ROWS // 2, "the endless app was done too soon to show anything"
        callers.cancel_scope.cancel()
