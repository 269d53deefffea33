"""Documents in running scripts: what is read, written, merged and refused, and what triggers see."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import anyio
import msgspec
import pytest

from domain.authz import Principal
from domain.docs import DocCreated, DocDeleted, DocUpdated
from domain.docs.events import DeleteDoc, PutDoc, check_data
from domain.executions import ExecutionSucceeded
from runtime.invocation import Outcome
from tests.runtime.world import App, reply, values

pytestmark = pytest.mark.anyio


async def run(app: App, *lines: str, **more: Any) -> Outcome:
    body = "\n".join(f"    {line}" for line in ('d = docs.collection("c")', *lines))
    return await app.run(await app.script(f"def handler(ctx):\n{body}\n", script_id=None), **more)


async def answer(app: App, *lines: str) -> Any:
    return reply(await run(app, *lines))


async def put(app: App, doc_id: str, data: Any, collection: str = "c") -> None:
    await app.append(PutDoc(collection=collection, id=doc_id, data=check_data(data)))


async def stored(app: App) -> dict[str, Any]:
    rows = await app.platform.pool.fetch("SELECT id, data FROM documents WHERE app_id = $1 AND collection = 'c'", app.id)
    return {row["id"]: msgspec.json.decode(row["data"]) for row in rows}


async def test_a_document_lives_from_run_to_run(app: App) -> None:
    doc_id = await answer(app, 'return [d.create({"name": "Ada", "born": 1815})]')
    (made,) = doc_id
    assert UUID(made).version == 7
    shown = await answer(app, f'return d.get("{made}")')
    assert (shown["id"], shown["data"], shown["version"]) == (made, {"name": "Ada", "born": 1815}, 1)
    await run(app, f'd.update("{made}", {{"name": "Ada Lovelace"}})')
    await run(app, f'd.patch("{made}", {{"tags": ["x"], "name": None}})')
    changed = await answer(app, f'return d.get("{made}")')
    assert (changed["data"], changed["version"], changed["created_at"]) == ({"tags": ["x"]}, 3, shown["created_at"])
    assert changed["updated_at"] > shown["updated_at"]
    assert await answer(app, f'return [d.delete("{made}"), d.delete("{made}"), d.get("{made}"), d.delete("none")]') == [True, False, None, False]
    assert await stored(app) == {}


async def test_a_run_reads_its_own_writes(app: App) -> None:
    await put(app, "b", {"n": 2})
    await put(app, "d", {"n": 4})
    await put(app, "e", {"n": 5})
    lines = (
        'd.create({"n": 1}, id="a")',
        'd.update("b", {"n": 20})',
        'd.create({"n": 3}, id="c")',
        'd.delete("e")',
        'ids = lambda found: [[x["id"], x["data"]["n"], x["version"]] for x in found]',
        "page = d.list(limit=2)",
        "return [",
        '    ids(d.find({"n": {"$gt": 1}, "$sort": {"n": -1}})),',
        '    ids(d.find({"$limit": 2})),',
        '    ids(page["items"] + d.list(cursor=page["next_cursor"])["items"]),',
        '    ids([d.find_one({"n": 20})]), d.find_one({"n": 2}), d.find_one({"n": 5}),',
        '    d.count(), d.count({"n": {"$lt": 5}}),',
        "]",
    )
    assert await answer(app, *lines) == [
        [["b", 20, 2], ["d", 4, 1], ["c", 3, 1]],
        [["a", 1, 1], ["b", 20, 2]],
        [["a", 1, 1], ["b", 20, 2], ["c", 3, 1], ["d", 4, 1]],
        [["b", 20, 2]],
        None,
        None,
        4,
        3,
    ]
    assert await stored(app) == {"a": {"n": 1}, "b": {"n": 20}, "c": {"n": 3}, "d": {"n": 4}}


async def test_pages_go_on_after_a_document(app: App) -> None:
    for number in range(7):
        await put(app, f"k{number}", {"n": number % 3})
    lines = (
        'd.create({"n": 1}, id="k9")',
        "seen, last = [], None",
        "while True:",
        '    page = d.find({"$sort": {"n": -1}, "$limit": 3, "$cursor": last})',
        "    if not page:",
        "        return seen",
        '    seen = seen + [x["id"] for x in page]',
        "    last = page[-1]",
    )
    assert await answer(app, *lines) == ["k2", "k5", "k1", "k4", "k9", "k0", "k3", "k6"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("docs.collection(1)", "TypeError: docs: collection name must be str, not int"),
        ('docs.collection("")', "ValueError: docs: collection name is empty"),
        ('docs.collection("x" * 129)', "ValueError: docs: collection name is longer than 128 bytes"),
        ("d.get(None)", "TypeError: docs: id must be str, not NoneType"),
        ('d.get("é" * 257)', "ValueError: docs: id is longer than 512 bytes"),
        ('d.get("a\\x00")', "ValueError: docs: id contains NUL"),
        ("d.create([])", "TypeError: docs: data must be dict, not list"),
        ('d.create({"a": float("nan")})', "ValueError: Out of range float values are not JSON compliant: nan"),
        ('d.create({"a": "x\\x00"})', "ValueError: docs: data contains NUL"),
        ('d.create({"a": "é" * 600000})', "ValueError: docs: data is longer than 1048576 bytes of JSON"),
        ('d.create({"a": ' + "[" * 64 + "]" * 64 + "})", "ValueError: docs: data is nested deeper than 64 levels"),
        ('d.create({}, id="there")', "RuntimeError: docs: there is a document there already"),
        ('d.update("none", {})', "KeyError: docs: there is no document none"),
        ('d.patch("none", {})', "KeyError: docs: there is no document none"),
        ('d.patch("there", [])', "TypeError: docs: merge must be dict, not list"),
        ("d.find(None)", "TypeError: docs: filter must be dict, not NoneType"),
        ('d.find({"a": {"$foo": 1}})', "ValueError: docs: unknown operator '$foo'"),
        ('d.find({"$limit": 1001})', "ValueError: docs: $limit must be 1 to 1000"),
        ('d.find_one({"a.b.c.d.e.f": 1})', "ValueError: docs: 'a.b.c.d.e.f' has more than 5 levels"),
        ('d.count({"$or": []})', "ValueError: docs: $or takes a list of at least one filter"),
        ("d.list(limit=0)", "ValueError: docs: limit must be within 1 and 1000"),
        ("d.list(cursor=1)", "TypeError: docs: cursor must be str or None, not int"),
        ('d.list(cursor="x")', "ValueError: docs: cursor: not a cursor of this list"),
    ],
)
async def test_bad_calls_raise_and_change_nothing(app: App, call: str, error: str) -> None:
    await put(app, "there", {})
    found = await answer(app, "try:", f"    {call}", "except Exception as e:", '    return [type(e).__name__ + ": " + str(e.args[0])]')
    assert found == [error]
    assert await stored(app) == {"there": {}}


FORGED = {
    "too few": "_sys_docs_find('c')",
    "no text": "_sys_docs_find('c', {}, None, {})",
    "no JSON": "_sys_docs_find('c', '{', None, {})",
    "no object": "_sys_docs_find('c', '[]', None, {})",
    "surrogates": "_sys_docs_find('c', '\"\\ud800\"', None, {})",
    "limit": "_sys_docs_find('c', '{}', 10 ** 30, {})",
    "limit of a bool": "_sys_docs_find('c', '{}', True, {})",
    "overlay": "_sys_docs_find('c', '{}', None, [])",
    "overlay's id": "_sys_docs_find('c', '{}', None, {'': '{}'})",
    "overlay's data": "_sys_docs_find('c', '{}', None, {'a': '[]'})",
    "much overlay": "_sys_docs_count('c', '{}', {str(i): None for i in range(1001)})",
    "long filter": "_sys_docs_count('c', '{\"a\": \"' + 'x' * 70000 + '\"}', {})",
    "collection": "_sys_docs_count('c' * 200, '{}', {})",
    "id": "_sys_docs_get('c', 'x' * 600)",
    "cursor": "_sys_docs_list('c', 10, 'x' * 9000, {})",
    "cursor of kv": "_sys_docs_list('c', 10, 'WyJrdiIsImEiXQ', {})",
    "limit of a list": "_sys_docs_list('c', 0, None, {})",
}


@pytest.mark.parametrize("call", FORGED.values(), ids=FORGED)
async def test_forged_calls_raise_what_a_script_may_catch(app: App, call: str) -> None:
    everything = "d.get, d.find, d.count, d.list"
    lines = ("if ctx is None:", f"    {everything}", "try:", f"    {call}", "except (ValueError, TypeError) as e:", '    return {"refused": str(e)}')
    assert "refused" in await answer(app, *lines)


FORGED_EFFECTS = [
    "('docs_create', 'c', 'there', '{}')",
    "('docs_update', 'c', 'none', '{}')",
    "('docs_create', 'c', '', '{}')",
    "('docs_create', 'c' * 129, 'a', '{}')",
    "('docs_create', 'c', 'a', '[]')",
    "('docs_create', 'c', 'a', '{\"a\": 1e999}')",
    "('docs_create', 'c', 'a', '{\"a\": \"\\\\u0000\"}')",
    "('docs_create', 'c', 'a', 7)",
    "('docs_create', 'c', 'a')",
    "('docs_delete', 'c', 7)",
]


@pytest.mark.parametrize("effect", FORGED_EFFECTS)
async def test_forged_effects_refuse_the_run(app: App, effect: str) -> None:
    await put(app, "there", {"n": 1})
    outcome = await run(app, 'd.create({}, id="with")', f"_picloud['_effects'].append({effect})")
    assert outcome.ending == "raised", outcome.result
    assert await stored(app) == {"there": {"n": 1}}


async def test_what_was_read_must_still_hold(app: App) -> None:
    """Two scripts that add one to what each of them reads lose nothing, by get or by find."""
    await put(app, "n", {"n": 0})
    by_get = await app.script('def handler(ctx):\n    d = docs.collection("c")\n    d.update("n", {"n": d.get("n")["data"]["n"] + 1})\n')
    by_find = await app.script('def handler(ctx):\n    d = docs.collection("c")\n    x = d.find({})[0]\n    d.patch(x["id"], {"n": x["data"]["n"] + 1})\n')
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(app.run, by_get)
            tasks.start_soon(app.run, by_find)
    assert await stored(app) == {"n": {"n": 10}}


async def test_an_absent_id_joins_the_read_set(app: App) -> None:
    claim = await app.script(
        'def handler(ctx):\n    d = docs.collection("c")\n    if d.get("one") is None:\n        d.create({"by": 1}, id="one")\n        return {"mine": True}\n'
        '    return {"mine": False}\n'
    )
    outcomes: list[Any] = []

    async def run_once() -> None:
        outcomes.append(reply(await app.run(claim))["mine"])

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(run_once)
    assert sorted(outcomes) == [False, False, False, True]


async def test_a_principal_needs_the_capabilities(app: App) -> None:
    nobody = Principal(kind="user", id=uuid4())
    for call, capability in (('d.get("a")', "read"), ("d.find({})", "read"), ("d.count({})", "read"), ("d.list()", "read"), ("d.create({})", "write")):
        outcome = await run(app, "try:", f"    {call}", "except PermissionError as e:", '    return {"no": str(e)}', principal=nobody)
        assert reply(outcome) == {"no": f"docs: app_docs_{capability} is required"}


async def test_more_than_a_page_can_hold_is_said(app: App) -> None:
    for number in range(6):
        await put(app, f"{number}", {"x": "y" * 1_000_000})
    assert await answer(app, "try:", "    d.find({})", "except ValueError as e:", "    return [str(e)]") == [
        "docs: what is found has more than 4194304 bytes; ask for less at once with $limit"
    ]
    lines = (
        "page = d.list()",
        'rest = d.list(cursor=page["next_cursor"])',
        'return [len(page["items"]), [x["id"] for x in rest["items"]], rest["next_cursor"], len(d.find({"$limit": 4}))]',
    )
    assert await answer(app, *lines) == [5, ["5"], None, 4]


SEEN = """
def handler(ctx):
    e = ctx.event.docs
    kv.collection("seen").set(ctx.execution_id, [ctx.event.version, ctx.event.op, e.collection, e.id, e.data, e.prev_data])
"""


async def test_triggers_see_each_change_with_the_data_before_it(app: App) -> None:
    await app.trigger(await app.script(SEEN), "c*", source="docs")
    await put(app, "d", {"n": 1}, "cc")
    await app.append(PutDoc(collection="cc", id="d", data=check_data({"n": 2})), DeleteDoc(collection="cc", id="d"))
    await put(app, "d", {"n": 4}, "cc")
    await put(app, "d", {}, "other")
    await app.expect(ExecutionSucceeded, 4)
    assert sorted((await app.kv("seen")).values()) == [
        [1, "create", "cc", "d", {"n": 1}, None],
        [2, "update", "cc", "d", {"n": 2}, {"n": 1}],
        [3, "delete", "cc", "d", None, {"n": 2}],
        [4, "create", "cc", "d", {"n": 4}, None],
    ]
    assert values(await app.events(DocCreated, DocUpdated, DocDeleted), "op") == ["create", "update", "delete", "create", "create"]
