from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from uuid_utils.compat import uuid7

from domain.statements import load_sql
from runtime.admin import chain_parts
from runtime.platform import Platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, make_route, make_script, refused
from tests.http.test_triggers_api import make_trigger
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

FIRST = """
def handler(ctx):
    for n in range(3):
        kv.collection("orders").set("o" + str(n), n)
    return 1
"""
SECOND = """
def handler(ctx):
    kv.collection("done").set(ctx.event.kv.key, 1)
    pubsub.publish_durable("told", ctx.event.kv.key)
"""
THIRD = "def handler(ctx):\n    kv.collection('last').set(str(ctx.event.position), 1)\n"
FAILS = "def handler(ctx):\n    raise ValueError('no')\n"
NOTHING = "def handler(ctx):\n    return None\n"
ONCE = {"max_attempts": 1, "backoff": "constant", "base_ms": 10, "jitter_pct": 0}
SECRET_HEADERS = {"authorization": "Bearer not-a-token-but-secret", "cookie": "a=very-secret", "x-api-key": "key-secret"}


async def chain(client: httpx.AsyncClient, app: str, execution: str, **params: Any) -> dict[str, Any]:
    answer = await client.get(f"{API}/apps/{app}/executions/{execution}/chain", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def settled(client: httpx.AsyncClient, app: str, execution: str, nodes: int) -> dict[str, Any]:
    """The chain once so many executions below have ended."""

    def holds(found: dict[str, Any]) -> bool:
        return sum(each["status"] in {"succeeded", "failed", "dead_lettered"} for each in found["triggered"]) >= nodes

    return await eventually(lambda: chain(client, app, execution), holds)


async def make_chain(owner: httpx.AsyncClient, mode: str = "sync") -> tuple[str, list[str], httpx.Response]:
    """An app whose request sets off two levels of executions; its scripts, and the answer."""
    app = await make_app(owner, "chained")
    scripts = [await make_script(owner, app, name, source) for name, source in (("first", FIRST), ("second", SECOND), ("third", THIRD))]
    await make_route(owner, scripts[0], "/go", dispatch_mode=mode)
    await make_trigger(owner, app, "kv", script_id=scripts[1], collection_glob="orders")
    await make_trigger(owner, app, "pubsub", script_id=scripts[2], topic_pattern="told")
    async with httpx.AsyncClient(base_url=owner.base_url) as caller:
        answer = await caller.post("/go?secret=query-secret", headers={"host": "chained.localhost", "x-request-id": "r-77", **SECRET_HEADERS}, json={})
    assert answer.is_success, answer.text
    return app, scripts, answer


async def test_from_a_synchronous_request_down_and_back(owner: httpx.AsyncClient) -> None:
    app, scripts, answer = await make_chain(owner)
    root = answer.headers["x-execution-id"]
    found = await settled(owner, app, root, 6)
    assert found["execution"]["script_id"] == scripts[0]
    assert found["execution"]["script_version"] == 1
    assert found["causes"] == []
    assert found["request"] == {"request_id": "r-77", "actor": "public", "method": None, "host": None, "path": None}
    assert [event["topic"] for event in found["events"]] == ["kv.KvSet"] * 3
    assert [event["stream"] for event in found["events"]] == [f"kv:orders:o{n}" for n in range(3)]
    first = [each for each in found["triggered"] if each["level"] == 1]
    second = [each for each in found["triggered"] if each["level"] == 2]
    assert [each["cause_position"] for each in first] == [event["position"] for event in found["events"]]
    assert {each["parent_id"] for each in first} == {root}
    assert {each["script_id"] for each in first} == {scripts[1]}
    assert {each["script_version"] for each in first} == {1}
    assert {each["parent_id"] for each in second} == {each["execution_id"] for each in first}
    assert {each["script_id"] for each in second} == {scripts[2]}
    assert (found["truncated"], found["more_triggered"], found["next_cursor"]) == (False, False, None)
    below = await chain(owner, app, second[0]["execution_id"])
    assert [cause["execution"]["execution_id"] for cause in below["causes"]] == [second[0]["parent_id"], root]
    assert below["causes"][0]["event"]["topic"] == "pubsub.Published"
    assert below["causes"][1]["event"] in found["events"]
    assert below["request"] == found["request"]
    assert [event["topic"] for event in below["events"]] == ["kv.KvSet", "executions.ExecutionSucceeded"]


async def test_from_an_accepted_request_and_nothing_secret_is_shown(owner: httpx.AsyncClient) -> None:
    app, _, answer = await make_chain(owner, "async")
    root = answer.json()["execution_id"]
    found = await settled(owner, app, root, 6)
    assert found["request"] == {"request_id": "r-77", "actor": "public", "method": "POST", "host": "chained.localhost", "path": "/go"}
    assert [cause["execution"] for cause in found["causes"]] == [None]
    assert found["causes"][0]["event"]["topic"] == "executions.HttpRequestAccepted"
    assert [event["topic"] for event in found["events"]] == [
        "executions.HttpRequestAccepted",
        *["kv.KvSet"] * 3,
        "executions.ExecutionSucceeded",
    ]
    assert len([each for each in found["triggered"] if each["level"] == 1]) == 3
    deepest = next(each for each in found["triggered"] if each["level"] == 2)
    below = await owner.get(f"{API}/apps/{app}/executions/{deepest['execution_id']}/chain")
    assert below.json()["request"] == found["request"]
    assert len(below.json()["causes"]) == 3
    for text in (str(found), below.text):
        assert "secret" not in text


async def test_what_is_kept_of_no_record_is_found_in_the_log(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app, scripts, answer = await make_chain(owner)
    root = answer.headers["x-execution-id"]
    before = await settled(owner, app, root, 6)
    await connection.execute("DELETE FROM execution_records")
    after = await chain(owner, app, root)
    assert after["events"] == before["events"]
    assert after["triggered"] == before["triggered"]
    assert (after["execution"]["script_id"], after["execution"]["status"], after["execution"]["script_version"]) == (scripts[0], "succeeded", 1)
    assert (after["request"]["actor"], after["truncated"]) == ("public", False)
    await connection.execute("DELETE FROM executions")
    leaf = next(each for each in before["triggered"] if each["level"] == 2)
    gone = await chain(owner, app, leaf["execution_id"])
    assert [cause["execution"]["execution_id"] for cause in gone["causes"]] == [leaf["parent_id"], root]


async def test_attempts_dead_letters_and_their_handlers(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "failing")
    broken, handler = await make_script(owner, app, "broken", FAILS), await make_script(owner, app, "handler", NOTHING)
    await make_trigger(owner, app, "kv", script_id=broken, collection_glob="orders", retry=ONCE | {"max_attempts": 2})
    await make_trigger(owner, app, "dead_letter", script_id=handler)
    assert (await owner.put(f"{API}/apps/{app}/kv/orders/k", json={"value": 1})).is_success

    async def dead() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await owner.get(f"{API}/apps/{app}/executions", params={"status": "dead_lettered"})).json()["items"]
        return items

    (execution,) = await eventually(dead)
    found = await settled(owner, app, execution["execution_id"], 1)
    assert [event["topic"] for event in found["events"]] == ["executions.ExecutionFailed", "executions.ExecutionDeadLettered"]
    assert found["execution"]["script_version"] == 1
    (handled,) = found["triggered"]
    assert (handled["source"], handled["script_id"], handled["status"]) == ("dead_letter", handler, "succeeded")
    assert found["request"] is None
    (cause,) = found["causes"]
    assert (cause["execution"], cause["event"]["topic"]) == (None, "kv.KvSet")
    below = await chain(owner, app, handled["execution_id"])
    assert [event["topic"] for event in below["events"]] == ["executions.ExecutionSucceeded", "dead_letters.DeadLetterResolved"]
    assert below["causes"][0]["execution"]["execution_id"] == execution["execution_id"]


async def test_events_come_in_pages_and_what_is_not_shown_is_said(owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _, answer = await make_chain(owner)
    root = answer.headers["x-execution-id"]
    whole = await settled(owner, app, root, 6)
    pages: list[Any] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        page = await chain(owner, app, root, limit="1", **cursor)
        pages += page["events"]
        cursor = {"cursor": page["next_cursor"]}
    assert pages == whole["events"]
    assert cursor["cursor"] is None
    shallow = await chain(owner, app, root, depth="1")
    assert {each["level"] for each in shallow["triggered"]} == {1}
    for name, most in (("runtime.admin.chain.MAX_CHILDREN", 2), ("runtime.admin.chain_parts.MAX_CHILDREN", 2)):
        monkeypatch.setattr(name, most)
    narrow = await chain(owner, app, root)
    assert (narrow["more_triggered"], narrow["truncated"], len(narrow["triggered"])) == (True, True, 4)
    monkeypatch.undo()
    monkeypatch.setattr("runtime.admin.chain.MAX_NODES", 4)
    monkeypatch.setattr("runtime.admin.chain_parts.MAX_NODES", 4)
    few = await chain(owner, app, root)
    assert (len(few["triggered"]), few["truncated"]) == (4, True)
    assert [each["more"] for each in few["triggered"][:3]].count(True) == 2


async def test_what_waits_is_shown(owner: httpx.AsyncClient, core: Platform) -> None:
    app, _, _ = await make_chain(owner)
    core.reactor.stop()
    async with httpx.AsyncClient(base_url=owner.base_url) as caller:
        answer = await caller.post("/go", headers={"host": "chained.localhost"}, json={})
    found = await eventually(lambda: chain(owner, app, answer.headers["x-execution-id"]), lambda found: len(found["triggered"]) == 3)
    assert {(each["status"], each["level"], each["depth"], each["source"]) for each in found["triggered"]} == {("queued", 1, 1, "kv")}
    assert [each["cause_position"] for each in found["triggered"]] == [event["position"] for event in found["events"]]


async def test_bad_requests_and_other_apps_are_refused(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    app, _, answer = await make_chain(owner)
    root = answer.headers["x-execution-id"]
    other = await make_app(owner, "other")
    place = f"{API}/apps/{app}/executions/{root}/chain"
    for name, value in (("depth", "0"), ("depth", "9"), ("depth", "x"), ("limit", "201"), ("limit", "0"), *(("cursor", bad) for bad in BAD_CURSORS)):
        refused(await owner.get(place, params={name: value}), 422, field=name)
    refused(await owner.get(f"{API}/apps/{other}/executions/{root}/chain"), 404)
    for reference in (*NO_IDS, str(uuid7())):
        refused(await owner.get(f"{API}/apps/{app}/executions/{reference}/chain"), 400 if reference == "%00" else 404)
    refused(await anonymous.get(place), 401)


async def test_no_statement_reads_a_table_whole(connection: asyncpg.Connection) -> None:
    app, some = UUID(int=1), UUID(int=2)
    await connection.execute(
        "INSERT INTO events SELECT $1, n, 'kv:c:' || n, 1, 'kv.KvSet', '{}', jsonb_build_object('correlation_id', n, 'execution_id', n), now() "
        "FROM generate_series(1, 20000) n",
        app,
    )
    await connection.execute(
        "INSERT INTO executions SELECT $1, gen_random_uuid(), 'succeeded', 'kv', $1, 1, NULL, n, n, 1, NULL, 1, now() FROM generate_series(1, 20000) n", app
    )
    await connection.execute("ANALYZE; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
    sql = load_sql("runtime.admin", "chain.sql")
    for name, args, index in [
        ("anchors", (app, "execution:x", some, 20), "events_stream_version"),
        ("first_of_root", (app, "x", 10), "events_correlation"),
        ("events", (app, [1], [9], "x", 0, 10), "events_pkey"),
        ("children", (app, [some], [1], [9], 10), "executions_cause"),
        ("pending", (app, [1], 10), "outbox_pkey"),
    ]:
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql[name]}", *args))
        assert index in plan, (name, plan)
        assert "Seq Scan" not in plan, (name, plan)
        if name in {"events", "children", "pending"}:
            condition = {"events": '("position" >=', "children": "cause_position >=", "pending": "(id ="}[name]
            assert any("Index Cond" in line and condition.strip("(") in line for line in plan.splitlines()), (name, plan)


def test_ranges_that_touch_are_one() -> None:
    assert chain_parts.merged([(5, 9), (1, 3), (4, 4), (20, 30), (8, 12)]) == [(1, 12), (20, 30)]
