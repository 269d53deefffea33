"""Whatever a script tries ends as it should, and the next run works."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox
from domain.sandbox import Call, Limits, RawEffect
from tests.adapters.sandbox_support import KvHost, answer, handler, job, returned

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=2)) as opened:
        yield opened


BOMBS = {
    "endless loop": (("while True: pass",), "timed_out"),
    "endless loop that catches": (("while True:", "    try:", "        while True: pass", "    except BaseException: pass"), "timed_out"),
    "list growth": (("x = []", "while True: x.append('a' * 1000)"), "budget"),
    "power": (("x = 10 ** 10 ** 8",), "budget"),
    "tower of powers": (("x = 2", "while True: x = x ** x"), "raised"),
    "str multiply": (("x = 'a' * 10 ** 10",), "budget"),
    "list multiply": (("x = [0] * 10 ** 10",), "budget"),
    "recursion": (("def f(n): return f(n + 1)", "return f(0)"), "budget"),
    "print flood": (("while True: print('x' * 1000)",), "budget"),
    "prints over 64 KiB": (("for i in range(70): print('x' * 1000)",), "budget"),
    "log flood": (("while True: log.info('x' * 1000)",), "budget"),
    "host call flood": (("c = kv.collection('c')", "i = 0", "while True:", "    i = i + 1", "    c.get(str(i))"), "budget"),
    "import flood": (("while True:", "    try:", "        import nothing_such", "    except ImportError: pass"), "budget"),
    "undefined name flood": (("while True:", "    try:", "        nothing_such", "    except NameError: pass"), "budget"),
    "huge result": (("return 'x' * (2 * 1024 * 1024)",), "budget"),
    "huge bytes": (("return b'x' * (2 * 1024 * 1024)",), "budget"),
    "cyclic result": (("x = []", "x.append(x)", "return x"), "raised"),
    "1000 deep result": (("x = []", "for i in range(1000): x = [x]", "return x"), "raised"),
    "65 deep result": (("x = []", "for i in range(65): x = [x]", "return x"), "raised"),
    "open": (("return open('/etc/passwd').read()",), "raised"),
    "environment": (("import os", "return os.environ['PATH']"), "raised"),
    "entropy": (("import os", "return os.urandom(8)"), "raised"),
    "listdir": (("import os", "return os.listdir('/')"), "raised"),
    "pathlib": (("from pathlib import Path", "return Path('/etc/passwd').read_text()"), "raised"),
    "__import__": (("return __import__('os')",), "raised"),
    "mro": (("return ().__class__.__mro__",), "raised"),
    "subclasses": (("return ().__class__.__base__.__subclasses__()",), "raised"),
    "function globals": (("return handler.__globals__",), "raised"),
    "builtins": (("return __builtins__",), "raised"),
    "getattr": (("return getattr((), '__cl' + 'ass__')",), "raised"),
    "regular expression": (("import re", "return re.match('(a+)+$', 'a' * 40 + 'b')"), None),
    "unknown host call": (("return _sys_x(1)",), "raised"),
    "host call with keywords": (("return _sys_kv_get(collection='c', key='k')",), "raised"),
    "forged abort": (("_sys_abort('nonsense')",), "raised"),
    "forged abort without arguments": (("_sys_abort()",), "raised"),
    "long message": (("raise ValueError('x' * 1000000)",), "raised"),
    "surrogates": (("return '\\ud800'",), None),
    "system exit": (("raise SystemExit",), "raised"),
    "own time limit error": (("raise TimeoutError('mine')",), "raised"),
    "own memory error": (("raise MemoryError('mine')",), "raised"),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_each_ends_and_the_next_run_works(sandbox: MontySandbox, name: str) -> None:
    lines, ending = BOMBS[name]
    result = await sandbox.run(job(handler(*lines), timeout_s=2.0), KvHost())
    assert ending is None or result.ending == ending, result
    assert result.effects == ()
    if result.ending not in ("returned", "aborted"):
        assert result.error is not None
        assert len(result.error.message) <= 4096
    assert await answer(sandbox, "return 1") == 1


async def test_recursion_limit_is_the_jobs(sandbox: MontySandbox) -> None:
    source = handler("def f(n): return 0 if n == 0 else 1 + f(n - 1)", "return f(90)")
    assert returned(await sandbox.run(job(source, limits=Limits(recursion=100)), KvHost())) == 90
    assert (await sandbox.run(job(source, limits=Limits(recursion=50)), KvHost())).ending == "budget"


async def test_host_call_limit_is_exact(sandbox: MontySandbox) -> None:
    source = handler("c = kv.collection('c')", "for i in range(10): c.get(str(i))", "return 1")
    assert returned(await sandbox.run(job(source, limits=Limits(host_calls=10)), KvHost())) == 1
    over = KvHost()
    assert (await sandbox.run(job(source, limits=Limits(host_calls=9)), over)).ending == "budget"
    assert len(over.calls) == 9


async def test_forged_calls_reach_the_host_as_they_are(sandbox: MontySandbox) -> None:
    seen: list[Call] = []

    async def anything(call: Call) -> None:
        seen.append(call)
        raise TypeError("anything: no")

    lines = ("class A: pass", "try:", "    _sys_anything(1, [A()], {'a': b'x'}, 'y' * 10)", "except TypeError as e:", "    return str(e)")
    assert await answer(sandbox, *lines, host=KvHost(anything=anything)) == "anything: no"
    assert seen[0].name == "anything"
    assert len(seen[0].args) == 4


@pytest.mark.parametrize(
    "shadow",
    [
        "kv_ = kv\nkv = 1\n",
        "class _KvCollection:\n    pass\n",
        "class _Kv:\n    pass\n",
        "json = None\n",
        "_dumps = _loads = _effects = _answer = _run = _context = None\n",
        "def abort(*args):\n    return 1\n",
        "def isinstance(a, b):\n    return True\n",
        "len = str = dict = bytes = print = setattr = None\n",
        "def exec(*args):\n    pass\n",
    ],
)
async def test_names_of_the_script_do_not_reach_the_prelude(sandbox: MontySandbox, shadow: str) -> None:
    source = f"store = kv\n{shadow}" + handler('c = store.collection("c")', 'c.set("a", [1])', 'return {"statusCode": 201, "body": c.get("a")}')
    result = await sandbox.run(job(source), KvHost())
    assert result.ending == "returned"
    assert result.reply is not None
    assert (result.reply.status, result.reply.body) == (201, b"[1]")
    assert result.effects == (RawEffect("kv_set", ("c", "a", "[1]", None)),)


@pytest.mark.parametrize(
    "forged",
    [
        "None",
        "1",
        "(1, 2, 3)",
        "((None, 'json', 1), [])",
        "((None, 'nonsense', 'x'), [])",
        "((None, ['json'], 'x'), [])",
        "((None, 'raw', 'x'), [])",
        "(({'statusCode': 999}, 'none', None), [])",
        "((None, 'json', '[' * 100), [])",
        "((None, 'none', None), 7)",
        "((None, 'none', None), [1])",
        "((None, 'none', None), [()])",
        "((None, 'none', None), [(1, 2)])",
    ],
)
async def test_a_forged_result_is_refused(sandbox: MontySandbox, forged: str) -> None:
    source = f"def run(handler, values):\n    return {forged}\n_picloud = {{'_run': run}}\n" + handler("return 1")
    result = await sandbox.run(job(source), KvHost())
    assert result.ending == "raised", result
    assert result.error is not None
    assert result.error.type in ("TypeError", "ValueError")


async def test_a_forged_effect_is_handed_over_as_untrusted(sandbox: MontySandbox) -> None:
    source = "def run(handler, values):\n    return (None, 'none', None), [('launch_missiles', {'a': 1})]\n_picloud = {'_run': run}\n" + handler("return 1")
    result = await sandbox.run(job(source), KvHost())
    assert result.effects == (RawEffect("launch_missiles", ({"a": 1},)),)


async def test_a_forged_log_line_is_a_print(sandbox: MontySandbox) -> None:
    result = await sandbox.run(job(handler("print('\\x1e[\"fatal\", 1]')", "print('\\x1e' + '[' * 5000)", "return 1")), KvHost())
    assert {line.level for line in result.logs} == {"print"}


async def test_values_that_cannot_enter_end_the_run_alone(sandbox: MontySandbox) -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert returned(await sandbox.run(job(handler("return len(ctx.a)"), ctx={"a": deep}), KvHost())) == 1  # depth alone is no harm
    for ctx, error in (({"a": "\ud800"}, "ValueError"), ({"a": object()}, "TypeError")):
        result = await sandbox.run(job(handler("return len(ctx.a)"), ctx=ctx), KvHost())
        assert result.ending == "raised", result
        assert result.error is not None
        assert result.error.type == error, result
        assert await answer(sandbox, "return 1") == 1


async def test_what_the_script_does_not_name_does_not_enter(sandbox: MontySandbox) -> None:
    assert returned(await sandbox.run(job(handler("return 1"), ctx={"a": object(), "request": {"b": object()}}), KvHost())) == 1


@pytest.mark.parametrize(
    "line",
    [
        'return getattr(ctx.request, "met" + "hod")',
        'return getattr(getattr(ctx, "requ" + "est"), "met" + "hod")',
        'return eval("ctx.req" + "uest.method")',
        'return ("{0.req" + "uest.method}").format(ctx)',
        "return ctx.\uff52equest.\uff4dethod",
        'look = getattr; kv.collection("c").set("k", "PUT"); return look(kv.collection("c"), "ge" + "t")("k")',
    ],
)
async def test_names_that_stand_nowhere_in_the_text_are_found(sandbox: MontySandbox, line: str) -> None:
    assert returned(await sandbox.run(job(handler(line), ctx={"request": {"method": "PUT"}}), KvHost())) == "PUT"
