"""The check at upload, and the SDK's stub."""

from __future__ import annotations

import ast
import time
from collections.abc import AsyncIterator

import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox, sdk_stub
from adapters.sandbox.prelude import EXPORTS
from domain.modules import MAX_SOURCE_BYTES
from domain.sandbox import ScriptKind, Source
from tests.adapters.sandbox_support import KvHost, answer, handler, job

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=1, check_timeout_s=5.0)) as opened:
        yield opened


async def findings(sandbox: MontySandbox, source: str, kind: ScriptKind = "endpoint", **modules: str) -> list[tuple[int, int, str]]:
    found = await sandbox.check(kind, Source("main", source), tuple(Source(name, text) for name, text in modules.items()))
    return [(finding.line, finding.column, finding.code) for finding in found]


async def test_a_good_script_has_no_findings(sandbox: MontySandbox) -> None:
    source = (
        "import json\nimport kv as store\nfrom helpers import greet\n\n"
        "def handler(ctx):\n"
        '    name = ctx.request.params.get("name", "world")\n'
        '    visits = kv.collection("visits")\n'
        "    n = (visits.get(name) or 0) + 1\n"
        "    visits.set(name, n, ttl=60, if_version=0)\n"
        '    log.info("greeted", {"name": name})\n'
        "    if n > 3:\n"
        '        abort(429, {"error": "enough"}, {"x-a": "b"})\n'
        '    store.collection("c").increment("k")\n'
        '    return {"hello": greet(name), "visits": n}\n'
    )
    assert await findings(sandbox, source, helpers='import kv\ndef greet(name: str) -> str:\n    return "hi " + name\n') == []


async def test_annotated_ctx_is_checked_and_bare_ctx_is_not(sandbox: MontySandbox) -> None:
    assert await findings(sandbox, handler("return ctx.nonsense")) == []
    assert await findings(sandbox, "def handler(ctx: Ctx):\n    return ctx.request.path + ctx.execution_id\n") == []
    assert await findings(sandbox, "def handler(ctx: Ctx):\n    return ctx.nonsense\n") == [(2, 12, "unresolved-attribute")]


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        ('kv.collection("c").gett("k")', 5, "unresolved-attribute"),
        ("kv.collection(3)", 19, "invalid-argument-type"),
        ("nothing_such", 5, "unresolved-reference"),
        ("import nothing_such", 12, "unresolved-import"),
        ("_KvCollection", 5, "unresolved-reference"),
    ],
)
async def test_findings_have_line_and_column(sandbox: MontySandbox, line: str, column: int, code: str) -> None:
    assert await findings(sandbox, handler("x = 1", line)) == [(3, column, code)]


@pytest.mark.parametrize(
    ("source", "line"),
    [("def handler(ctx:\n    pass", 2), ("def handler(ctx):\n    pass\n\nclass E(Exception):\n    pass", 4), ("def handler(ctx):\n    yield 1", 2)],
)
async def test_what_the_sandbox_cannot_compile(sandbox: MontySandbox, source: str, line: int) -> None:
    found = await findings(sandbox, source)
    assert found
    assert {code for _, _, code in found} == {"invalid-syntax"}
    assert found[0][0] == line


@pytest.mark.alone
async def test_nothing_is_run(sandbox: MontySandbox) -> None:
    began = time.perf_counter()
    assert await findings(sandbox, "while True:\n    pass\n" + handler("return 1")) in ([], [(3, 1, "unreachable-code")])
    assert time.perf_counter() - began < 4


async def test_bodies_and_imports_are_checked(sandbox: MontySandbox) -> None:
    assert (1, 1, "handler_missing") in await findings(sandbox, "x = 1")
    assert await findings(sandbox, "X = 1\n\ndef f():\n    return kv\n", "module") == []
    assert (2, 1, "module_body") in await findings(sandbox, "X = 1\nprint(X)\n", "module")
    assert (1, 1, "import_cycle") in await findings(sandbox, "import a\n" + handler("return a"), a="import b\n", b="import a\n")
    assert await findings(sandbox, "from helpers import f\n" + handler("return f(1)"), helpers="def f(x: str) -> str:\n    return x\n") == [
        (3, 14, "invalid-argument-type")
    ]


BOMBS = {
    "too long": "x = 1\n" * MAX_SOURCE_BYTES,
    "nul": "x = '\x00'",
    "surrogate": "x = '\ud800'",
    "parentheses": "x = " + "(" * 20_000 + ")" * 20_000,
    "attributes": "x = a" + ".b" * 60_000,
    "operators": "x = 1" + " + 1" * 60_000,
    "unary": "x = " + "-" * 200_000 + "1",
    "blocks": "\n".join(" " * level + "if x:" for level in range(600)) + "\n" + " " * 600 + "pass",
    "unions": "x: " + " | ".join(f"list[tuple[{', '.join(['int'] * 50)}]]" for _ in range(900)),
    "tuples": "x0 = (1,)\n" + "".join(f"x{n + 1} = (x{n}, x{n})\n" for n in range(2000)),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_ends_as_a_finding(sandbox: MontySandbox, name: str) -> None:
    began = time.perf_counter()
    found = await sandbox.check("module", Source("main", BOMBS[name]))
    assert time.perf_counter() - began < 15
    assert name in ("operators", "tuples", "unions", "attributes", "blocks") or any(finding.severity == "error" for finding in found)
    assert all(1 <= finding.line <= BOMBS[name].count("\n") + 1 and finding.column >= 1 for finding in found)
    assert await findings(sandbox, "X = 1\n", "module") == []
    assert await answer(sandbox, "return 1") == 1


async def test_a_bomb_at_run_time_ends_too(sandbox: MontySandbox) -> None:
    for name in ("parentheses", "attributes", "operators", "unary", "surrogate"):
        result = await sandbox.run(job(f"{BOMBS[name]}\n{handler('return 1')}", timeout_s=2), KvHost())
        assert result.ending != "returned" or name in ("operators", "attributes"), name
        assert await answer(sandbox, "return 1") == 1


async def test_a_module_named_like_a_service_does_not_replace_it(sandbox: MontySandbox) -> None:
    assert await findings(sandbox, handler('return kv.collection("c").get("k")')) == []


def test_the_stub_is_python_and_declares_every_export() -> None:
    tree = ast.parse(sdk_stub())
    declared = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    declared |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    builtins_that_the_checker_lacks = {"hasattr", "getattr", "map", "filter"}
    assert declared == {*EXPORTS, *builtins_that_the_checker_lacks}


async def test_builtins_and_event_fields_that_the_contract_names_pass_the_check(sandbox: MontySandbox) -> None:
    body = 'x = hasattr(ctx, "event") and getattr(ctx, "depth", 0)\n    return [*map(str, [x]), *filter(None, [ctx.event.position, ctx.event.version])]'
    assert await findings(sandbox, f"def handler(ctx: Ctx):\n    {body}\n") == []


async def test_an_sdk_call_from_a_sort_key_says_what_to_do_instead(sandbox: MontySandbox) -> None:
    result = await sandbox.run(job(handler('return sorted(["a", "b"], key=lambda k: kv.collection("c").get(k))')), KvHost())
    assert result.ending == "raised"
    assert result.error is not None
    assert "read first, then sort" in result.error.message


@pytest.mark.parametrize(
    "source",
    [
        "url = 'x'\nhex = 5\n\ndef handler(ctx):\n    return [url.upper(), hex + 1]\n",
        "def url(a):\n    return a\n\ndef handler(ctx):\n    return url(1)\n",
        "class uuid:\n    pass\n\ndef handler(ctx):\n    return uuid() is None\n",
        "if True:\n    for schedule in [1]:\n        pass\n\ndef handler(ctx):\n    return schedule + 1\n",
        "def handler(ctx):\n    url = 1\n    for kv in [1]:\n        pass\n    return url + kv\n",
    ],
)
async def test_scripts_may_use_the_sdks_names_for_their_own(sandbox: MontySandbox, source: str) -> None:
    assert await sandbox.check("endpoint", Source("main", source)) == []


async def test_names_that_a_script_leaves_alone_are_the_sdks(sandbox: MontySandbox) -> None:
    found = await sandbox.check("endpoint", Source("main", "url = 1\n\ndef handler(ctx):\n    hex = 2\n    return kv.collect(url)\n"))
    assert [finding.line for finding in found] == [5]
