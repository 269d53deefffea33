"""One execution is one unit of work."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import anyio
import msgspec
import pytest

from domain.authz import Principal
from domain.kv import KvSet, SetKey
from runtime import services
from runtime.platform import Platform
from tests.runtime.world import App, new_app, reply, running, values

pytestmark = pytest.mark.anyio

ADD_ONE = """
def handler(ctx):
    c = kv.collection("n")
    key = ctx.request.query["k"]
    c.set(key, (c.get(key) or 0) + 1)
"""


async def test_a_script_reads_its_own_writes_and_commits_them_once(app: App) -> None:
    script = await app.script("""
def handler(ctx):
    c = kv.collection("c")
    c.set("a", 1)
    c.set("a", 2)
    c.increment("a", 5)
    c.set("gone", 1)
    c.delete("gone")
    return [c.get("a"), c.has("gone"), [item["key"] for item in c.list()["items"]]]
""")
    outcome = await app.run(script)
    assert reply(outcome) == [7, False, ["a"]]
    assert await app.kv("c") == {"a": 7}
    assert [recorded.position for recorded in outcome.events] == list(range(outcome.events[0].position, outcome.events[0].position + len(outcome.events)))
    assert {recorded.metadata.script_id for recorded in outcome.events} == {script}


@pytest.mark.parametrize(
    ("end", "ending"),
    [
        ("raise ValueError('no')", "raised"),
        ("abort(418)", "aborted"),
        ("while True: pass", "timed_out"),
        ("[0] * 10**9", "budget"),
        ("return {1, 2}", "raised"),
    ],
)
async def test_whatever_does_not_return_leaves_nothing_behind(app: App, end: str, ending: str) -> None:
    script = await app.script(f"def handler(ctx):\n    kv.collection('c').set('a', 1)\n    {end}\n", timeout_s=0.3)
    outcome = await app.run(script)
    assert outcome.ending == ending
    assert outcome.events == ()
    assert await app.kv("c") == {}
    assert await app.events(KvSet) == []


async def test_a_run_that_reads_without_end_is_ended(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has read is held by this process, not by the sandbox, whose memory is bounded; it does not help the script to go on."""
    monkeypatch.setattr(services, "MAX_UNIT_READS", 100)
    script = await app.script("""
def handler(ctx):
    c = kv.collection("c")
    refused = 0
    for n in range(200):
        try:
            c.get(str(n))
        except RuntimeError:
            refused += 1
    c.set("refused", refused)
""")
    outcome = await app.run(script)
    assert outcome.ending == "budget"
    assert outcome.result.error is not None
    assert outcome.result.error.message == services.OVERREAD
    assert await app.kv("c") == {}


@pytest.mark.parametrize("keys", [1, 3])
async def test_concurrent_read_modify_writes_lose_no_update(app: App, keys: int) -> None:
    script = await app.script(ADD_ONE, timeout_s=20)
    runs = 20
    outcomes: list[Any] = []

    async def client(number: int) -> None:
        outcomes.extend([await app.run(script, query={"k": str(number % keys)}) for _ in range(runs)])

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(client, number)
    assert {outcome.ending for outcome in outcomes} == {"returned"}
    assert sum((await app.kv("n")).values()) == 12 * runs
    assert sum(outcome.reruns for outcome in outcomes) > 0


async def test_two_processes_lose_no_update_either(dsn: str) -> None:
    async with running(dsn) as one, running(dsn) as two:
        app = await new_app(one)
        other = App(two, app.id)
        script = await app.script(ADD_ONE, timeout_s=20)

        async def client(where: App) -> None:
            for _ in range(15):
                assert (await where.run(script, query={"k": "hot"})).ending == "returned"

        async with anyio.create_task_group() as tasks:
            for where in (app, other) * 4:
                tasks.start_soon(client, where)
        assert await app.kv("n") == {"hot": 120}


async def test_a_rerun_keeps_id_and_seed_and_takes_a_new_clock(app: App) -> None:
    script = await app.script("""
import random, time
def handler(ctx):
    c = kv.collection("c")
    c.set("mine", (c.get("theirs") or 0))
    return [ctx.execution_id, random.random(), time.time()]
""")
    interfering = _Interfering(app, "theirs")
    app.platform.executor.log = interfering
    outcome = await app.run(script)
    app.platform.executor.log = interfering.real
    assert (outcome.ending, outcome.reruns) == ("returned", 1)
    first, second = interfering.seen
    assert first.metadata.execution_id == second.metadata.execution_id
    assert first.now < second.now
    again = await app.run(script)
    assert reply(again)[:2] != reply(outcome)[:2]
    assert await app.kv("c") == {"theirs": 1, "mine": 1}


@pytest.mark.alone
async def test_who_loses_until_the_time_is_up_ends_in_contention(app: App) -> None:
    script = await app.script("def handler(ctx):\n    c = kv.collection('c')\n    c.set('mine', c.get('theirs'))\n", timeout_s=0.3)
    interfering = _Interfering(app, "theirs", times=10_000)
    app.platform.executor.log = interfering
    outcome = await app.run(script)
    app.platform.executor.log = interfering.real
    assert outcome.ending == "contention"
    assert outcome.reruns > 1
    assert "mine" not in await app.kv("c")


class _Interfering:
    """A log before which somebody else writes a key, the first so many times that a unit has read it."""

    def __init__(self, app: App, key: str, times: int = 1) -> None:
        self.real = app.platform.executor.log
        self.seen: list[Any] = []
        self._app = app
        self._key = key
        self._times = times

    async def append(self, unit: Any) -> Any:
        self.seen.append(unit)
        if self._times:
            self._times -= 1
            await self._app.append(SetKey(collection="c", key=self._key, value=msgspec.Raw(b"%d" % len(self.seen))))
        return await self.real.append(unit)


async def test_a_run_that_only_reads_has_read_one_moment(app: App) -> None:
    """Two keys are always set together; reading one after the other must never show them apart."""
    writer = await app.script("""
def handler(ctx):
    c = kv.collection("c")
    c.set("a", ctx.request.query["n"])
    c.set("b", ctx.request.query["n"])
""")
    reader = await app.script("def handler(ctx):\n    c = kv.collection('c')\n    return [c.get('a'), c.get('b')]\n", name="reader")
    done = anyio.Event()

    async def write() -> None:
        for number in range(80):
            assert (await app.run(writer, query={"n": number})).ending == "returned"
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        while not done.is_set():
            first, second = reply(await app.run(reader))
            assert first == second


async def test_an_error_that_torn_reads_alone_explain_is_not_shown(app: App) -> None:
    reader = await app.script("""
def handler(ctx):
    c = kv.collection("c")
    if c.get("a") != c.get("b"):
        raise RuntimeError("torn")
    return c.get("a")
""")
    await _set_both(app, 1)
    check, torn = app.platform.executor.check_reads, [True]

    async def between(app_id: Any, reads: Any, now: Any) -> None:
        if torn.pop() if torn else False:
            await _set_both(app, 2)
        await check(app_id, reads, now)

    app.platform.executor.check_reads = between
    outcome = await app.run(reader)
    assert (reply(outcome), outcome.reruns) == (2, 1)


async def _set_both(app: App, value: int) -> None:
    await app.append(*(SetKey(collection="c", key=key, value=msgspec.Raw(b"%d" % value)) for key in ("a", "b")))


async def test_increments_never_conflict(app: App) -> None:
    script = await app.script("def handler(ctx):\n    kv.collection('n').increment('hot')\n")
    outcomes: list[Any] = []

    async def client() -> None:
        outcomes.extend([await app.run(script) for _ in range(15)])

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(client)
    assert await app.kv("n") == {"hot": 180}
    assert {outcome.reruns for outcome in outcomes} == {0}


async def test_an_increment_shown_by_list_is_a_read(app: App) -> None:
    """The sum that list shows holds a committed value, so that must still hold at commit."""
    script = await app.script("""
def handler(ctx):
    c = kv.collection("c")
    c.increment("k", 10)
    kv.collection("out").set("seen", c.list()["items"][0]["value"])
""")
    await app.append(SetKey(collection="c", key="k", value=msgspec.Raw(b"0")))
    interfering = _Interfering(app, "k")
    app.platform.executor.log = interfering
    outcome = await app.run(script)
    app.platform.executor.log = interfering.real
    assert outcome.reruns == 1
    assert (await app.kv("out"))["seen"] == (await app.kv("c"))["k"] == 11


async def test_an_increment_of_what_is_no_number_fails_at_commit(app: App) -> None:
    script = await app.script("def handler(ctx):\n    kv.collection('c').set('other', 1)\n    kv.collection('c').increment('text')\n")
    await app.append(SetKey(collection="c", key="text", value=msgspec.Raw(b'"x"')))
    outcome = await app.run(script)
    assert outcome.ending == "raised"
    assert outcome.result.error is not None
    assert "not a number" in outcome.result.error.message
    assert await app.kv("c") == {"text": "x"}


@pytest.mark.parametrize(
    "source",
    [
        "_picloud['_effects'].append(('kv_set', 'c', 'k', 'not json', None))",
        "_picloud['_effects'].append(('kv_set', 'c', '', '1', None))",
        "_picloud['_effects'].append(('kv_set', 'c', 'k', '1', -5))",
        "_picloud['_effects'].append(('kv_set', 'c', 'k'))",
        "_picloud['_effects'].append(('kv_set', 'c', 'k' * 600, '1', None))",
        "_picloud['_effects'].append(('kv_set', 'c', 'k\\x00', '1', None))",
        "_picloud['_effects'].append(('kv_increment', 'c', 'k', 'many'))",
        "_picloud['_effects'].append(('events_delete', 'everything'))",
        "_picloud['_effects'].append(('__class__',))",
        "_picloud['_effects'].append('kv_set')",
    ],
)
async def test_forged_effects_are_refused_as_a_whole(app: App, source: str) -> None:
    script = await app.script(f"def handler(ctx):\n    kv.collection('c').set('good', 1)\n    {source}\n")
    outcome = await app.run(script)
    assert outcome.ending == "raised", outcome.result
    assert await app.kv("c") == {}


async def test_a_result_that_is_no_answer_is_no_effect_either(app: App) -> None:
    script = await app.script("def handler(ctx):\n    kv.collection('c').set('a', 1)\n    return {'statusCode': 200, 'headers': {'x': 'a\\r\\nb: c'}}\n")
    outcome = await app.run(script)
    assert outcome.ending == "raised"
    assert await app.kv("c") == {}


async def test_attached_principals_need_the_capability(app: App, platform: Platform) -> None:
    script = await app.script("""
def handler(ctx):
    c = kv.collection("c")
    try:
        c.get("a")
        read = True
    except PermissionError as error:
        read = str(error)
    if ctx.request.query:
        c.set("a", 1)
    return read
""")
    catches = await app.script(
        """
def handler(ctx):
    told = []
    for write in (lambda: kv.collection("c").set("a", 1), lambda: kv.collection("c").increment("n"), lambda: docs.collection("d").create({}, "x")):
        try:
            write()
        except PermissionError as error:
            told.append(str(error))
    return told
""",
        name="catches",
    )
    viewer = Principal(kind="user", id=uuid4(), app_roles={app.id: "viewer"})
    nobody = Principal(kind="user", id=uuid4())
    assert reply(await app.run(script, viewer)) is True
    assert reply(await app.run(script, nobody)) == "kv: app_kv_read is required"
    refused = await app.run(script, viewer, query={"write": "1"})
    assert refused.ending == "raised"
    assert refused.result.error is not None
    assert refused.result.error.type == "PermissionError"
    assert [(frame.script, frame.line) for frame in refused.result.error.frames] == [("main", 10)]
    assert reply(await app.run(catches, viewer)) == ["kv: app_kv_write is required"] * 2 + ["docs: app_docs_write is required"]
    assert (await app.run(script, None, query={"write": "1"})).ending == "returned"
    assert len(await app.events(KvSet)) == 1
    assert platform.executor.shares.waiting == 0


async def test_list_pages_through_values_longer_than_a_page(app: App) -> None:
    """A page is bounded in bytes, so a thousand values of a mebibyte are never read at once; none is missed."""
    for number in range(12):
        value = msgspec.Raw(msgspec.json.encode("x" * 1_000_000))
        await app.append(SetKey(collection="big", key=f"{number:02}", value=value))
    script = await app.script(
        """
def handler(ctx):
    pages, cursor = [], None
    while True:
        page = kv.collection("big").list(limit=1000, cursor=cursor)
        pages.append([item["key"] for item in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages
"""
    )
    pages = reply(await app.run(script))
    assert [key for page in pages for key in page] == [f"{number:02}" for number in range(12)]
    assert max(map(len, pages)) <= 5


async def test_versions_and_positions_are_in_call_order(app: App) -> None:
    script = await app.script("def handler(ctx):\n    c = kv.collection('c')\n    for n in range(5):\n        c.set('k', n)\n        c.set('j', n)\n")
    outcome = await app.run(script)
    assert values(outcome.events, "key") == ["k", "j"] * 5
    assert [recorded.version for recorded in outcome.events] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


async def test_a_rerun_is_given_the_outside_worlds_answers_again(app: App) -> None:
    """The first run loses its read to somebody else's write, while it has asked for ids already."""
    script = await app.script("""
def handler(ctx):
    ids = [str(uuid.uuid4()), str(uuid.uuid7())]
    c = kv.collection("c")
    n = c.get("n") or 0
    c.get(ids[0])
    c.set(ids[0], n)
    c.set("n", n + 1)
    return ids
""")
    outcomes: list[Any] = []

    async def client() -> None:
        outcomes.extend([await app.run(script) for _ in range(10)])

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(client)
    assert sum(outcome.reruns for outcome in outcomes) > 0
    answered = [value for outcome in outcomes for value in reply(outcome)]
    assert len(set(answered)) == 160
    for outcome in outcomes:
        asked = [answer for answer in outcome.journal if answer.call == "uuid_new"]
        assert [answer.value for answer in asked] == reply(outcome)


async def test_a_rerun_after_a_conflict_has_the_same_ids(app: App) -> None:
    """Told apart by what it has asked for: one more id would be another run's."""
    script = await app.script(
        "def handler(ctx):\n    first = str(uuid.uuid4())\n    c = kv.collection('c')\n    n = c.get('n')\n    c.set('n', first)\n    return [first, n]\n"
    )
    given: list[str] = []
    view = await app.platform.directory.view(app.id)
    source = view.scripts[script]
    asked = app.platform.executor.sandbox.run

    async def run_and_meddle(job: Any, host: Any) -> Any:
        """The real sandbox; behind the first run's back somebody writes what it has read."""
        result = await asked(job, host)
        if source.source == job.script.source:
            assert result.reply is not None
            given.append(msgspec.json.decode(result.reply.body)[0])
            if len(given) == 1:
                await app.append(SetKey(collection="c", key="n", value=msgspec.Raw(b"1")))
        return result

    app.platform.executor.sandbox.run = run_and_meddle  # type: ignore[method-assign]
    try:
        outcome = await app.run(script)
    finally:
        app.platform.executor.sandbox.run = asked  # type: ignore[method-assign]
    assert outcome.reruns == 1
    assert given[0] == given[1] == reply(outcome)[0]
    assert reply(outcome)[1] == 1
