"""Endings, replies, ctx, logs, modules and determinism."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox
from domain.sandbox import Frame, Limits, LogLine, ScriptError
from tests.adapters.sandbox_support import APP, KvHost, answer, handler, job, returned

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=2)) as opened:
        yield opened


async def test_return_values_become_replies(sandbox: MontySandbox) -> None:
    cases = {
        'return {"a": [1, None]}': (200, "application/json", b'{"a":[1,null]}'),
        'return "text"': (200, "application/json", b'"text"'),
        "return None": (204, None, b""),
        'return b"\\x00\\xff"': (200, "application/octet-stream", b"\x00\xff"),
        'return {"statusCode": 201, "body": "é"}': (201, "text/plain; charset=utf-8", "é".encode()),
        'return {"statusCode": 202, "body": [1]}': (202, "application/json", b"[1]"),
        'return {"statusCode": 304}': (304, None, b""),
        'return {"statusCode": 200, "body": b"x", "headers": {"Content-Type": "image/png"}}': (200, "image/png", b"x"),
    }
    for line, (status, content_type, body) in cases.items():
        result = await sandbox.run(job(handler(line)), KvHost())
        assert result.ending == "returned", (line, result)
        assert result.reply is not None
        assert (result.reply.status, result.reply.headers.get("content-type"), result.reply.body) == (status, content_type, body)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('return {"statusCode": "200"}', "TypeError", "statusCode must be int"),
        ('return {"statusCode": True}', "TypeError", "statusCode must be int"),
        ('return {"statusCode": 100}', "ValueError", "within 200 and 599"),
        ('return {"statusCode": 200, "boddy": 1}', "ValueError", "unknown key 'boddy'"),
        ('return {"statusCode": 200, "headers": {"a": 1}}', "TypeError", "map str to str"),
        ('return {"statusCode": 200, "headers": {"a": "x\\r\\ny: 1"}}', "ValueError", "CR, LF or NUL"),
        ('return {"statusCode": 200, "headers": {"a b": "x"}}', "ValueError", "not a header name"),
        ('return {"statusCode": 200, "headers": []}', "TypeError", "headers must be dict"),
        ('return float("nan")', "ValueError", "Out of range float"),
        ("return {1, 2}", "TypeError", "not JSON serializable"),
        ("return lambda: 1", "TypeError", "not JSON serializable"),
    ],
)
async def test_malformed_results_are_refused_with_a_message(sandbox: MontySandbox, line: str, error: str, message: str) -> None:
    result = await sandbox.run(job(handler(line)), KvHost())
    assert result.ending == "raised"
    assert result.error is not None
    assert result.error.type == error
    assert message in result.error.message
    assert result.effects == ()


async def test_errors_name_script_line_and_module(sandbox: MontySandbox) -> None:
    source = "import helpers\n\ndef handler(ctx):\n    return helpers.outer()\n"
    result = await sandbox.run(
        job(source, deep="# a\ndef fail():\n    return 1 / 0\n", helpers="import deep\n\ndef outer():\n    return deep.fail()\n"), KvHost()
    )
    assert result.ending == "raised"
    assert result.error is not None
    assert result.error.type == "ZeroDivisionError"
    assert [(frame.script, frame.line, frame.function) for frame in result.error.frames] == [
        ("main", 4, "handler"),
        ("helpers", 4, "outer"),
        ("deep", 3, "fail"),
    ]


async def test_errors_of_the_sdk_end_at_the_scripts_own_line(sandbox: MontySandbox) -> None:
    result = await sandbox.run(job(handler("x = 1", 'kv.collection("c").get(3)')), KvHost())
    assert result.error == ScriptError("TypeError", "kv: key must be str, not int", (Frame("main", 3, 5, "handler"),))


@pytest.mark.parametrize(
    ("source", "line"),
    [("def handler(:", 1), ("x = 1\n\ndef f():\n    yield 1", 4), ("def handler(ctx):\n    return (1,", 2), ("class E(Exception):\n    pass", 1)],
)
async def test_what_does_not_compile_is_invalid(sandbox: MontySandbox, source: str, line: int) -> None:
    result = await sandbox.run(job(source), KvHost())
    assert result.ending == "invalid"
    assert result.error is not None
    assert result.error.frames[-1].line == line


async def test_a_missing_handler_is_said(sandbox: MontySandbox) -> None:
    result = await sandbox.run(job("x = 1"), KvHost())
    assert (result.ending, result.error) == ("raised", ScriptError("NameError", "the script does not define handler(ctx)"))
    misspelt = await sandbox.run(job(handler("return handlr")), KvHost())
    assert misspelt.error is not None
    assert "handlr" in misspelt.error.message


async def test_abort_cannot_be_caught(sandbox: MontySandbox) -> None:
    source = handler(
        'c = kv.collection("c")',
        'c.set("k", 1)',
        "try:",
        '    abort(404, {"error": "nope"}, {"x-a": "b"})',
        "except BaseException:",
        '    return "swallowed"',
        "finally:",
        '    c.set("k", 2)',
    )
    result = await sandbox.run(job(source), KvHost())
    assert result.ending == "aborted"
    assert result.effects == ()
    assert result.reply is not None
    assert (result.reply.status, result.reply.headers, result.reply.body) == (404, {"x-a": "b", "content-type": "application/json"}, b'{"error":"nope"}')


@pytest.mark.parametrize(
    ("call", "error"), [('abort("404")', "TypeError"), ("abort(100)", "ValueError"), ("abort(200, {1, 2})", "TypeError"), ("abort(404, None, 3)", "TypeError")]
)
async def test_abort_checks_its_arguments_at_the_call(sandbox: MontySandbox, call: str, error: str) -> None:
    assert await answer(sandbox, "try:", f"    {call}", f"except {error} as e:", "    return str(e)[:6]") in ("abort:", "Object")


async def test_ctx_has_attributes_where_the_contract_says_so(sandbox: MontySandbox) -> None:
    ctx = {"execution_id": "e", "event": {"source": "kv", "op": "insert", "kv": {"collection": "c", "key": "k", "value": {"a": 1}, "prev": None}}}
    source = handler(
        "missing = []",
        "try:",
        "    ctx.request",
        "except AttributeError:",
        '    missing.append("request")',
        "try:",
        "    ctx.event.kv.nothing",
        "except AttributeError:",
        '    missing.append("nothing")',
        'return [ctx.execution_id, ctx.event.kv.key, ctx.event.kv.value["a"], hasattr(ctx, "event"), hasattr(ctx, "request"), missing]',
    )
    assert returned(await sandbox.run(job(source, ctx=ctx), KvHost())) == ["e", "k", 1, True, False, ["request", "nothing"]]
    request = {"method": "POST", "headers": {"a": "b"}, "query": {"q": "1"}, "params": {}, "body": {"x": [1]}, "body_bytes": b"{}"}
    source = handler('return [ctx.request.headers["a"], ctx.request.query.get("q"), ctx.request.body["x"], len(ctx.request.body_bytes), hasattr(ctx, "event")]')
    assert returned(await sandbox.run(job(source, ctx={"request": request}), KvHost())) == ["b", "1", [1], 2, False]


async def test_logs_and_prints_keep_their_order_in_every_ending(sandbox: MontySandbox) -> None:
    lines = ('print("one", end="")', 'log.info("two", {"n": 2})', 'print("three")', 'log.error("four")')
    expected = (LogLine("print", "one"), LogLine("info", "two", {"n": 2}), LogLine("print", "three\n"), LogLine("error", "four"))
    for last, ending in (
        ("return 1", "returned"),
        ("1 / 0", "raised"),
        ("abort(400)", "aborted"),
        ("while True: pass", "timed_out"),
        ('"a" * 10**10', "budget"),
    ):
        result = await sandbox.run(job(handler(*lines, last), timeout_s=0.3), KvHost())
        assert (result.ending, result.logs) == (ending, expected)


async def test_log_refuses_what_is_not_json(sandbox: MontySandbox) -> None:
    assert await answer(sandbox, "try:", '    log.info("a", b"x")', "except TypeError:", '    return "refused"') == "refused"
    assert await answer(sandbox, "try:", "    log.info(1)", "except TypeError as e:", "    return str(e)") == "log: message must be str, not int"


async def test_modules_and_sdk_can_be_imported(sandbox: MontySandbox) -> None:
    helpers = (
        "import kv as store\nfrom deep import SUFFIX\nPREFIX = 'hi '\n\n"
        "def greet(n):\n    kv.collection('c').set('k', n)\n    return PREFIX + n + SUFFIX + str(store is kv)\n"
    )
    source = "import kv as mine\nimport helpers\nfrom helpers import greet\nPREFIX = 'no'\n" + handler(
        'return [greet("bob"), helpers.PREFIX, mine is kv, kv.collection("c").get("k")]'
    )
    result = await sandbox.run(job(source, deep="SUFFIX = '!'\n", helpers=helpers), KvHost())
    assert returned(result) == ["hi bob!True", "hi ", True, "bob"]
    assert [effect.args for effect in result.effects] == [("c", "k", '"bob"', None)]


async def test_unknown_imports_and_names_raise(sandbox: MontySandbox) -> None:
    assert await answer(sandbox, "try:", "    import nothing_such", "except ImportError:", '    return "no"') == "no"
    assert await answer(sandbox, "try:", "    nothing_such(1)", "except NameError:", '    return "no"') == "no"


async def test_clock_and_seed_are_all_of_time_and_chance(sandbox: MontySandbox) -> None:
    source = "import datetime, random, time\n" + handler(
        "before = time.time()",
        "time.sleep(3600)",
        "return [before, time.time(), datetime.datetime.now().isoformat(), random.random(), sorted([1, 2, 3, 4, 5], key=lambda _: random.random())]",
    )
    first = returned(await sandbox.run(job(source), KvHost()))
    assert first[0] == first[1] == 1772368215.25
    assert first[2] == "2026-03-01T12:30:15.250000"
    async with open_sandbox(SandboxSettings(slots=1, harden=False)) as another:
        assert returned(await another.run(job(source), KvHost())) == first


async def test_globals_do_not_survive_a_run(sandbox: MontySandbox) -> None:
    source = "try:\n    seen = leak\nexcept NameError:\n    seen = None\nleak = 1\n" + handler("return seen")
    for _ in range(5):
        assert returned(await sandbox.run(job(source, app_id=APP), KvHost())) is None


async def test_output_counts_answer_and_logs(sandbox: MontySandbox) -> None:
    limits = Limits(output_bytes=1000)
    fits = await sandbox.run(job(handler('return "x" * 900'), limits=limits), KvHost())
    assert fits.ending == "returned"
    for lines in (('return "x" * 1000',), ('log.info("x" * 600)', 'return "x" * 600')):
        result = await sandbox.run(job(handler(*lines), limits=limits), KvHost())
        assert result.ending == "budget"
        assert result.reply is None
