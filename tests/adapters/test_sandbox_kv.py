"""kv inside the sandbox: the overlay, what crosses, and the effects that are handed over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox
from domain.sandbox import RawEffect
from tests.adapters.sandbox_support import KvHost, answer, handler, job, returned

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=2)) as opened:
        yield opened


C = 'c = kv.collection("c")'


async def test_reads_cross_once_and_writes_not_at_all(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ("1", 7)})
    result = await sandbox.run(
        job(handler(C, 'n = c.get("a") + c.get("a")', 'c.set("a", n)', 'c.set("b", {"n": n})', 'return [c.get("a"), c.get("b"), c.has("b")]')), host
    )
    assert returned(result) == [2, {"n": 2}, True]
    assert [(call.name, call.args) for call in host.calls] == [("kv_get", ("c", "a"))]
    assert result.effects == (RawEffect("kv_set", ("c", "a", "2", None)), RawEffect("kv_set", ("c", "b", '{"n":2}', None)))


async def test_values_are_snapshots(sandbox: MontySandbox) -> None:
    assert await answer(sandbox, C, "v = [1]", 'c.set("a", v)', "v.append(2)", 'w = c.get("a")', "w.append(3)", 'return c.get("a")') == [1]
    host = KvHost({("c", "a"): ("[1]", 1)})
    assert await answer(sandbox, C, 'w = c.get("a")', "w.append(3)", 'return c.get("a")', host=host) == [1]


async def test_delete_says_whether_it_was_there(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ("1", 1)})
    result = await sandbox.run(
        job(handler(C, 'c.set("n", 0)', 'return [c.delete("a"), c.delete("a"), c.delete("x"), c.delete("n"), c.get("a"), c.has("n")]')), host
    )
    assert returned(result) == [True, False, False, True, None, False]
    assert [effect.name for effect in result.effects] == ["kv_set", "kv_delete", "kv_delete"]


async def test_increment_reads_only_when_asked(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ("40", 3)})
    blind = await sandbox.run(job(handler(C, 'c.increment("a")', 'c.increment("a", 1.5)', 'return c.has("z")')), host)
    assert [call.args for call in host.calls] == [("c", "z")]
    assert blind.effects == (RawEffect("kv_increment", ("c", "a", 1)), RawEffect("kv_increment", ("c", "a", 1.5)))
    assert await answer(sandbox, C, 'c.increment("a", 2)', 'c.increment("new")', 'return [c.get("a"), c.get("new")]', host=host) == [42, 1]
    known = KvHost()
    assert await answer(sandbox, C, 'c.set("a", 1)', 'c.increment("a")', 'c.delete("a")', 'c.increment("a", 5)', 'return c.get("a")', host=known) == 5
    assert known.calls == []


async def test_increment_of_what_is_no_number_raises(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ('"text"', 1)})
    assert (
        await answer(sandbox, C, 'c.increment("a")', "try:", '    c.get("a")', "except TypeError as e:", "    return str(e)", host=host)
        == "kv: the value of a is not a number"
    )
    assert (
        await answer(sandbox, C, 'c.set("a", [])', "try:", '    c.increment("a")', "except TypeError as e:", "    return str(e)")
        == "kv: the value of a is not a number"
    )


async def test_if_version_is_checked_against_what_was_read(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ("1", 3)})
    lines = (
        C,
        'c.set("a", 2, if_version=3)',
        'c.set("a", 3, if_version=4)',
        'c.set("new", 1, if_version=0)',
        "try:",
        '    c.set("a", 9, if_version=3)',
        "except RuntimeError as e:",
        "    return str(e)",
    )
    result = await sandbox.run(job(handler(*lines)), host)
    assert returned(result) == "kv: version conflict on a: expected 3, found 5"
    assert [effect.args[:3] for effect in result.effects] == [("c", "a", "2"), ("c", "a", "3"), ("c", "new", "1")]


async def test_entry(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ('{"x":1}', 3)})
    lines = (C, 'before = c.entry("a")', 'c.set("a", 2)', 'return [before, c.entry("a"), c.entry("none")]')
    assert await answer(sandbox, *lines, host=host) == [
        {"value": {"x": 1}, "version": 3, "updated_at": "2026-01-01T00:00:00.000000Z"},
        {"value": 2, "version": 4, "updated_at": "2026-03-01T12:30:15.250000Z"},
        None,
    ]


async def test_list_hands_over_the_overlay_and_remembers_what_it_saw(sandbox: MontySandbox) -> None:
    host = KvHost({("c", "a"): ("1", 1), ("c", "b"): ("2", 1), ("c", "d"): ("[4]", 1), ("other", "e"): ("5", 1)})
    lines = (
        C,
        'c.set("c", 3)',
        'c.delete("a")',
        'c.increment("b")',
        "page = c.list(limit=2)",
        'rest = c.list(cursor=page["next_cursor"])',
        'return [page, rest, c.get("d")]',
    )
    page, rest, again = await answer(sandbox, *lines, host=host)
    assert [(item["key"], item["value"]) for item in page["items"]] == [("b", 3), ("c", 3)]
    assert [(item["key"], item["value"], item["version"]) for item in rest["items"]] == [("d", [4], 1)]
    assert rest["next_cursor"] is None
    assert again == [4]
    assert [(call.name, call.args) for call in host.calls] == [
        ("kv_get", ("c", "a")),
        ("kv_list", ("c", "", 2, None, {"c": ["set", "3"], "a": ["delete"], "b": ["add", 1]})),
        ("kv_list", ("c", "", 100, "c", {"c": ["set", "3"], "a": ["delete"], "b": ["add", 1]})),
    ]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("kv.collection(1)", "TypeError: kv: collection name must be str, not int"),
        ('kv.collection("")', "ValueError: kv: collection name is empty"),
        ('kv.collection("x" * 129)', "ValueError: kv: collection name is longer than 128 bytes"),
        ("c.get(None)", "TypeError: kv: key must be str, not NoneType"),
        ('c.set("", 1)', "ValueError: kv: key is empty"),
        ('c.set("é" * 257, 1)', "ValueError: kv: key is longer than 512 bytes"),
        ('c.has("a\\x00")', "ValueError: kv: key contains NUL"),
        ('c.set("a", {"x": "a\\x00"})', "ValueError: kv: value contains NUL"),
        ('c.set("a", b"x")', "TypeError: Object of type bytes is not JSON serializable"),
        ('c.set("a", float("inf"))', "ValueError: Out of range float values are not JSON compliant: inf"),
        ('c.set("a", "é" * 600000)', "ValueError: kv: value is longer than 1048576 bytes of JSON"),
        ('c.set("a", ' + "[" * 65 + "]" * 65 + ")", "ValueError: kv: value is nested deeper than 64 levels"),
        ('c.set("a", 1, ttl=0)', "ValueError: kv: ttl must be positive and finite"),
        ('c.set("a", 1, ttl="1")', "TypeError: kv: ttl must be a number of seconds, not str"),
        ('c.set("a", 1, if_version=True)', "TypeError: kv: if_version must be int, not bool"),
        ('c.set("a", 1, if_version=-1)', "ValueError: kv: if_version must not be negative"),
        ('c.increment("a", "1")', "TypeError: kv: by must be a number, not str"),
        ('c.increment("a", float("nan"))', "ValueError: Out of range float values are not JSON compliant: nan"),
        ("c.list(limit=0)", "ValueError: kv: limit must be within 1 and 1000"),
        ("c.list(limit=1001)", "ValueError: kv: limit must be within 1 and 1000"),
        ("c.list(prefix=1)", "TypeError: kv: prefix must be str, not int"),
        ("c.list(cursor=1)", "TypeError: kv: cursor must be str or None, not int"),
    ],
)
async def test_arguments_are_checked_at_the_call(sandbox: MontySandbox, call: str, error: str) -> None:
    host = KvHost()
    result = await sandbox.run(job(handler(C, "try:", f"    {call}", "except Exception as e:", '    return type(e).__name__ + ": " + str(e)')), host)
    assert returned(result) == error
    assert result.effects == ()
    assert host.calls == []


async def test_depth_is_not_the_number_of_brackets(sandbox: MontySandbox) -> None:
    assert await answer(sandbox, C, 'c.set("a", [[], {}] * 100)', 'c.set("b", ' + "[" * 64 + "]" * 64 + ")", 'return len(c.get("a"))') == 200


async def test_a_literal_backslash_u0000_is_no_nul(sandbox: MontySandbox) -> None:
    assert await answer(sandbox, C, 'c.set("a", "\\\\u0000")', 'return len(c.get("a"))') == 6


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ('c.get("a")', 7),
        ('c.has("a")', True),
        ('c.delete("a")', True),
        ('c.set("a", 1, ttl=5, if_version=3)', None),
        ('c.increment("a")', None),
        ('c.entry("a")["version"]', 3),
        ('len(c.list()["items"])', 1),
    ],
)
async def test_each_call_works_where_the_script_names_no_other(sandbox: MontySandbox, call: str, value: object) -> None:
    assert await answer(sandbox, C, f"return [{call}]", host=KvHost({("c", "a"): ("7", 3)})) == [value]
