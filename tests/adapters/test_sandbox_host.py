"""Host calls, time that they take, parking, cancellation, killed workers, and whose workers they are."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox
from domain.errors import Unavailable
from domain.sandbox import Call, Limits, RunResult, Source
from tests.adapters.sandbox_support import APP, OTHER_APP, KvHost, answer, handler, job, returned

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=2)) as opened:
        yield opened


def pids(sandbox: MontySandbox) -> set[int]:
    """Processes of idle workers."""
    found = set()
    for worker in sandbox._workers._idle:
        with worker.pool().checkout() as session:
            assert session.worker_pid is not None
            found.add(session.worker_pid)
    return found


async def refuse(call: Call) -> None:
    raise {"value": ValueError, "key": KeyError, "permission": PermissionError, "runtime": RuntimeError, "own": LookupError}[call.args[0]]("said the host")


async def test_errors_of_built_in_types_are_raised_into_the_script(sandbox: MontySandbox) -> None:
    for kind, name in (("value", "ValueError"), ("key", "KeyError"), ("permission", "PermissionError"), ("runtime", "RuntimeError")):
        lines = ("try:", f"    _sys_refuse({kind!r})", f"except {name} as e:", "    return str(e)")
        assert "said the host" in await answer(sandbox, *lines, host=KvHost(refuse=refuse))


async def test_other_errors_end_the_run_and_propagate(sandbox: MontySandbox) -> None:
    with pytest.raises(LookupError, match="said the host"):
        await sandbox.run(job(handler("try:", "    _sys_refuse('own')", "except BaseException:", "    return 1")), KvHost(refuse=refuse))
    assert await answer(sandbox, "return 1") == 1


async def test_answers_at_hand_are_given_in_the_sandboxs_thread(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "k"): ("3", 1)})
    host.at_hand.add("kv_get")
    lines = ('c = kv.collection("c")', 'return [c.get("k"), c.get("none")]')
    assert await answer(sandbox, *lines, host=host) == [3, None]
    assert [call.args for call in host.calls] == [("c", "k"), ("c", "none")]


@pytest.mark.parametrize(("kind", "ends"), [(ValueError, False), (PermissionError, False), (LookupError, True)])
async def test_errors_at_hand_are_like_others(sandbox: MontySandbox, kind: type[Exception], ends: bool) -> None:  # noqa: FBT001
    class Refusing(KvHost):
        def answer_now(self, call: Call) -> object:
            raise kind("said the host")

    run = job(handler("try:", '    kv.collection("c").get("k")', "except (ValueError, PermissionError) as e:", "    return str(e)"))
    if ends:
        with pytest.raises(kind, match="said the host"):
            await sandbox.run(run, Refusing())
    else:
        assert returned(await sandbox.run(run, Refusing())) == "said the host"
    assert await answer(sandbox, "return 1") == 1


@pytest.mark.alone
async def test_time_in_host_calls_counts(sandbox: MontySandbox) -> None:
    async def never(_call: Call) -> None:
        await anyio.sleep_forever()

    began = time.perf_counter()
    result = await sandbox.run(
        job(handler("log.info('before')", "try:", "    _sys_never()", "except BaseException:", "    return 1"), timeout_s=0.2), KvHost(never=never)
    )
    assert result.ending == "timed_out"
    assert [line.message for line in result.logs] == ["before"]
    assert 0.19 <= result.duration_s < time.perf_counter() - began < 1.5


async def test_a_timeout_of_the_hosts_own_is_not_the_scripts(sandbox: MontySandbox) -> None:
    async def late(_call: Call) -> None:
        raise TimeoutError("the host's own")

    with pytest.raises(TimeoutError, match="the host's own"):
        await sandbox.run(job(handler("_sys_late()")), KvHost(late=late))


@pytest.mark.alone
async def test_sandbox_time_after_a_host_call_has_only_what_is_left() -> None:
    async def pause(_call: Call) -> None:
        await anyio.sleep(0.6)

    async with open_sandbox(SandboxSettings(slots=1, kill_grace_s=0.1)) as sandbox:
        began = time.perf_counter()
        result = await sandbox.run(job(handler("print('kept')", "_sys_pause()", "while True: pass"), timeout_s=0.8), KvHost(pause=pause))
        assert result.ending == "timed_out"
        assert [line.message for line in result.logs] == ["kept\n"]
        assert time.perf_counter() - began < 1.35
        assert await answer(sandbox, "return 1") == 1


async def test_many_parked_runs_share_one_worker() -> None:
    arrived = 0
    gate = anyio.Event()

    async def slow(call: Call) -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            gate.set()
        await gate.wait()
        return int(call.args[0]) * 2

    host = KvHost(parked={"slow": slow})
    results: dict[int, RunResult] = {}

    async with open_sandbox(SandboxSettings(slots=1, runs=1, warm_workers=1)) as sandbox:

        async def one(number: int) -> None:
            source = handler(
                "import random, time",
                "c = kv.collection('c')",
                f"c.set('k', {number})",
                "print('before')",
                "first = random.random()",
                f"n = _sys_slow({number})",
                "log.info('after')",
                "return [n, c.get('k'), first, random.random(), time.time()]",
            )
            results[number] = await sandbox.run(job(source), host)

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(one, number)
        assert sandbox.status().workers == 1
    straight = returned(results[0])
    for number, result in results.items():
        assert returned(result) == [number * 2, number, *straight[2:]]
        assert [line.message for line in result.logs] == ["before\n", "after"]
        assert [effect.args for effect in result.effects] == [("c", "k", str(number), None)]


async def test_limits_hold_after_parking(sandbox: MontySandbox) -> None:
    async def slow(_call: Call) -> int:
        return 1

    host = KvHost(parked={"slow": slow})
    for line, ending in (("while True: pass", "timed_out"), ("x = 'a' * 10**9", "budget"), ("1 / 0", "raised"), ("abort(404)", "aborted")):
        result = await sandbox.run(job(handler("_sys_slow()", line), timeout_s=0.5, limits=Limits(memory_mib=16)), host)
        assert result.ending == ending
    endless = handler("while True: _sys_slow()")
    assert (await sandbox.run(job(endless, limits=Limits(host_calls=20)), host)).ending == "budget"


@pytest.mark.parametrize("mib", [0, 1, 4, 8, 12])
async def test_a_run_that_holds_much_waits_where_it_is(sandbox: MontySandbox, mib: int) -> None:
    async def slow(_call: Call) -> bytes:
        return bytes(mib * 1024 * 1024)

    lines = (f"held = 'x' * ({mib} * 1048576)", "first = _sys_slow()", "second = _sys_slow()", "return [len(held), len(first), len(second)]")
    result = await sandbox.run(job(handler(*lines)), KvHost(parked={"slow": slow}))
    assert returned(result) == [mib * 1024 * 1024] * 3


async def test_a_killed_worker_is_a_crash_and_is_replaced(sandbox: MontySandbox) -> None:
    async def kill(_call: Call) -> None:
        for worker in psutil_children():
            os.kill(worker, signal.SIGKILL)

    result = await sandbox.run(job(handler("print('kept')", "kv.collection('c').set('a', 1)", "_sys_kill()", "return 1")), KvHost(kill=kill))
    assert result.ending == "crashed"
    assert result.effects == ()
    assert [line.message for line in result.logs] == ["kept\n"]
    assert await answer(sandbox, "return 1") == 1


async def test_idle_workers_that_died_are_replaced_unseen(sandbox: MontySandbox) -> None:
    assert await answer(sandbox, "return 1") == 1
    for pid in psutil_children():
        os.kill(pid, signal.SIGKILL)
    for _ in range(3):
        assert await answer(sandbox, "return 1") == 1


def psutil_children() -> list[int]:
    """Our worker processes that are alive."""
    import psutil  # noqa: PLC0415

    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended (a zombie is one of these)
            if "monty" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


async def test_cancelling_ends_the_run_at_once(sandbox: MontySandbox) -> None:
    began = time.perf_counter()
    with anyio.move_on_after(0.3) as scope:
        await sandbox.run(job(handler("while True: pass"), timeout_s=30), KvHost())
    assert scope.cancelled_caught
    assert time.perf_counter() - began < 5
    assert await answer(sandbox, "return 1") == 1


@pytest.mark.alone
async def test_runs_that_loop_keep_no_other_waiting() -> None:
    async with open_sandbox(SandboxSettings(slots=1)) as sandbox, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(sandbox.run, job(handler("while True: pass"), timeout_s=30), KvHost())
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(3):
            assert returned(await sandbox.run(job(handler("return 1"), app_id=OTHER_APP), KvHost())) == 1
        tasks.cancel_scope.cancel()


async def test_cancelling_what_waits_for_a_worker_waits_for_nobody() -> None:
    async with open_sandbox(SandboxSettings(slots=1, runs=1)) as sandbox, anyio.create_task_group() as tasks:
        tasks.start_soon(sandbox.run, job(handler("while True: pass"), timeout_s=30), KvHost())
        await anyio.wait_all_tasks_blocked()
        began = time.perf_counter()
        with anyio.move_on_after(0.1) as scope:
            await sandbox.run(job(handler("return 1")), KvHost())
        assert scope.cancelled_caught
        assert time.perf_counter() - began < 5
        tasks.cancel_scope.cancel()


async def test_the_loop_is_never_blocked(sandbox: MontySandbox) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await sandbox.run(job(handler("while True: pass"), timeout_s=0.5), KvHost())
        tasks.cancel_scope.cancel()
    assert ticks >= 10


async def test_workers_are_never_shared_between_apps() -> None:
    async with open_sandbox(SandboxSettings(slots=1, warm_workers=1)) as sandbox:
        await sandbox.run(job(handler("return 1"), app_id=APP), KvHost())
        first = pids(sandbox)
        await sandbox.run(job(handler("return 1"), app_id=APP), KvHost())
        assert pids(sandbox) == first
        await sandbox.run(job(handler("return 1"), app_id=OTHER_APP), KvHost())
        assert not pids(sandbox) & first
        assert sandbox.status().workers == 1


async def test_warm_workers_wait_for_their_app() -> None:
    async with open_sandbox(SandboxSettings(slots=1, warm_workers=2)) as sandbox:
        for app_id in (APP, OTHER_APP):
            await sandbox.run(job(handler("return 1"), app_id=app_id), KvHost())
        warm = pids(sandbox)
        for app_id in (APP, OTHER_APP, APP):
            await sandbox.run(job(handler("return 1"), app_id=app_id), KvHost())
        assert pids(sandbox) == warm
        assert len(warm) == 2


async def test_a_worker_is_recycled_after_its_checkouts() -> None:
    async with open_sandbox(SandboxSettings(slots=1, recycle_after=3)) as sandbox:
        seen = set()
        for _ in range(9):
            assert await answer(sandbox, "return 1") == 1
            seen |= set(psutil_children())
        assert len(seen) >= 3


async def test_many_runs_of_many_apps_at_once(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ("20", 1)})
    results: list[RunResult] = []

    async def one(number: int) -> None:
        app_id = (APP, OTHER_APP)[number % 2]
        results.append(await sandbox.run(job(handler("return kv.collection('c').get('a') + 1"), app_id=app_id), host))

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(one, number)
    assert [returned(result) for result in results] == [21] * 60


async def test_without_a_binary_the_sandbox_says_that_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONTY_BIN", "/nonexistent/monty")
    async with open_sandbox(SandboxSettings(slots=1)) as sandbox:
        with pytest.raises(Unavailable):
            await answer(sandbox, "return 1")
        with pytest.raises(Unavailable):
            await sandbox.check("module", Source("main", "X = 1"))
        assert not any(sandbox.status().hardening.values())
