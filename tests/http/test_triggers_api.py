from __future__ import annotations

from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, make_script, nested, nothing_changes, refused, send
from tests.http.conftest import client_of

pytestmark = pytest.mark.anyio

RETRY = {"max_attempts": 3, "backoff": "exponential", "base_ms": 1000, "jitter_pct": 20}


def path(app: str, *parts: str) -> str:
    """The path of an app's triggers."""
    return "/".join([f"{API}/apps/{app}/triggers", *parts])


async def make_trigger(client: httpx.AsyncClient, app: str, kind: str, **body: Any) -> dict[str, Any]:
    """A new trigger as it was answered."""
    answer = await client.post(path(app, kind), json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_kv_trigger_is_created_changed_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    me = (await owner.get(f"{API}/auth/me")).json()["user"]["id"]
    made = await make_trigger(owner, "one", "kv", script_id=script, collection_glob="orders*", ops=["insert", "update", "insert"])
    assert made == {
        "id": made["id"],
        "app_id": app,
        "kind": "kv",
        "script_id": script,
        "enabled": True,
        "collection_glob": "orders*",
        "ops": ["insert", "update"],
        "retry": RETRY,
        "registrant": f"user:{me}",
        "created_at": made["created_at"],
    }
    assert (await owner.get(path(app, made["id"]))).json() == made
    answer = await owner.patch(path(app, made["id"]), json={"enabled": False, "ops": None, "retry": {"max_attempts": 5}})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed == made | {"enabled": False, "ops": [], "retry": RETRY | {"max_attempts": 5}}
    assert (await owner.get(path(app, made["id"]))).json() == changed
    assert (await owner.delete(path(app, made["id"]))).status_code == 204
    for answer in (await owner.get(path(app, made["id"])), await owner.delete(path(app, made["id"])), await owner.patch(path(app, made["id"]), json={})):
        refused(answer, 404)


async def test_a_change_that_changes_nothing_appends_nothing(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    made = [
        await make_trigger(owner, app, "kv", script_id=script, collection_glob="*", ops=["delete"]),
        await make_trigger(owner, app, "dead_letter", script_id=script, filter={"script_id": script}),
    ]
    async with nothing_changes(connection):
        for trigger in made:
            answer = await owner.patch(path(app, trigger["id"]), json={"enabled": True, "script_id": script, "retry": {}})
            assert (answer.status_code, answer.json()) == (200, trigger)


async def test_a_dead_letter_trigger_has_its_filter_apart(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    kv = await make_trigger(owner, app, "kv", script_id=script, collection_glob="*")
    everything = await make_trigger(owner, app, "dead_letter", script_id=script)
    assert everything["filter"] == {"source": None, "trigger_id": None, "script_id": None}
    narrow = await make_trigger(owner, app, "dead_letter", script_id=script, filter={"source": "kv", "trigger_id": kv["id"], "script_id": script})
    assert narrow["filter"] == {"source": "kv", "trigger_id": kv["id"], "script_id": script}
    rows = await connection.fetch("SELECT pattern FROM triggers WHERE source = 'dead_letter' ORDER BY trigger_id")
    assert [row["pattern"] for row in rows] == ["*/*/*", f"kv/{kv['id']}/{script}"]
    answer = await owner.patch(path(app, narrow["id"]), json={"filter": {"trigger_id": None}})
    assert answer.json()["filter"] == {"source": "kv", "trigger_id": None, "script_id": script}


async def test_triggers_are_listed_in_pages(owner: httpx.AsyncClient) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    script = await make_script(owner, one)
    await make_trigger(owner, two, "kv", script_id=await make_script(owner, two), collection_glob="*")
    made = [await make_trigger(owner, one, "kv", script_id=script, collection_glob=f"c{number}") for number in range(3)]
    first = (await owner.get(path(one), params={"limit": 2})).json()
    assert first["items"] == made[:2]
    second = (await owner.get(path(one), params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert second == {"items": made[2:], "next_cursor": None}


async def test_a_script_ends_with_its_triggers_and_keeps_its_kind_beside_them(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, "util")
    trigger = await make_trigger(owner, app, "kv", script_id=script, collection_glob="*")
    async with nothing_changes(connection):
        document = refused(await owner.put(f"{API}/scripts/{script}", json={"kind": "module"}), 409, "in_use")
        assert document["triggers"] == [trigger["id"]]
    assert (await owner.delete(f"{API}/scripts/{script}")).status_code == 204
    refused(await owner.get(path(app, trigger["id"])), 404)


async def test_a_trigger_and_the_end_of_its_script_never_pass_each_other(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")

    async def delete(script: str) -> None:
        assert (await owner.delete(f"{API}/scripts/{script}")).status_code == 204

    async def create(script: str) -> None:
        answer = await owner.post(path(app, "kv"), json={"script_id": script, "collection_glob": "*"})
        assert answer.status_code in {201, 422}

    for number in range(5):
        script = await make_script(owner, app, f"s{number}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete, script)
            tasks.start_soon(create, script)
    assert await connection.fetchval("SELECT count(*) FROM triggers") == 0


BAD_TRIGGERS: list[tuple[dict[str, Any], str]] = [
    ({"collection_glob": ""}, "collection_glob"),
    ({"collection_glob": "a*b"}, "collection_glob"),
    ({"collection_glob": "a" * 200}, "collection_glob"),
    ({"collection_glob": "a\x00"}, "$.collection_glob"),
    ({"collection_glob": 1}, "$.collection_glob"),
    ({"collection_glob": nested(80)}, "$.collection_glob"),
    ({"ops": ["insert", "explode"]}, "$.ops[1]"),
    ({"ops": "insert"}, "$.ops"),
    ({"script_id": "x"}, "$.script_id"),
    ({"script_id": UNKNOWN_ID}, "script_id"),
    ({"enabled": "yes"}, "$.enabled"),
    ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
    ({"retry": {"max_attempts": 21}}, "retry.max_attempts"),
    ({"retry": {"max_attempts": 10**40}}, "retry.max_attempts"),
    ({"retry": {"base_ms": 9}}, "retry.base_ms"),
    ({"retry": {"jitter_pct": 101}}, "retry.jitter_pct"),
    ({"retry": {"backoff": "none"}}, "$.retry.backoff"),
    ({"retry": {"x": 1}}, "$.retry.x"),
    ({"registrant": "system"}, "$.registrant"),
    ({"topic_pattern": "*"}, "$.topic_pattern"),
]


async def test_bad_triggers_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    script = await make_script(owner, one)
    module = await make_script(owner, one, "util", "X = 1\n", kind="module")
    foreign = await make_script(owner, two)
    whole = {"script_id": script, "collection_glob": "*"}
    made = await make_trigger(owner, one, "kv", **whole)
    foreign_trigger = await make_trigger(owner, two, "kv", script_id=foreign, collection_glob="*")
    async with nothing_changes(connection):
        for change, field in [*BAD_TRIGGERS, ({"script_id": module}, "script_id"), ({"script_id": foreign}, "script_id")]:
            refused(await send(owner, "POST", f"/apps/{one}/triggers/kv", whole | change), 422, field=field)
            refused(await send(owner, "PATCH", f"/apps/{one}/triggers/{made['id']}", change), 422, field=field)
        for left_out in whole:
            refused(await send(owner, "POST", f"/apps/{one}/triggers/kv", {name: value for name, value in whole.items() if name != left_out}), 422)
            refused(await send(owner, "PATCH", f"/apps/{one}/triggers/{made['id']}", {left_out: None}), 422, field=f"$.{left_out}")
        for wanted, field in (
            ({"source": "nowhere"}, "$.filter.source"),
            ({"trigger_id": foreign_trigger["id"]}, "filter.trigger_id"),
            ({"script_id": foreign}, "filter.script_id"),
            ({"x": 1}, "$.filter.x"),
        ):
            refused(await owner.post(path(one, "dead_letter"), json={"script_id": script, "filter": wanted}), 422, field=field)
        refused(await send(owner, "PATCH", f"/apps/{one}/triggers/{made['id']}", [1]), 422)
        refused(await owner.post(path(one, "kv"), content=b"{"), 400, "malformed")


async def test_kinds_that_are_not_there_are_missing(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    async with nothing_changes(connection):
        for kind in ("webhook", "x", UNKNOWN_ID):
            refused(await owner.post(path(app, kind), json={"script_id": script}), 404, "unknown_trigger_kind")


async def test_what_is_no_trigger_is_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    trigger = await make_trigger(owner, one, "kv", script_id=await make_script(owner, one), collection_glob="*")
    async with nothing_changes(connection):
        for reference in (*NO_IDS, trigger["id"]):
            status = 400 if reference == "%00" else 404
            refused(await owner.get(path(two, reference)), status)
            refused(await owner.patch(path(two, reference), json={}), status)
            refused(await owner.delete(path(two, reference)), status)
        for reference in NO_IDS:
            refused(await owner.get(path(reference)), 400 if reference == "%00" else 404)
        for cursor in BAD_CURSORS:
            refused(await owner.get(path(one), params={"cursor": cursor}), 422, field="cursor")
        refused(await anonymous.get(path(one)), 401)
        refused(await anonymous.post(path(one, "kv"), json={}), 401)


async def test_a_key_says_what_runs_as_somebody_else_only_if_it_may_do_all_of_that(owner: httpx.AsyncClient, url: str, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script, other = await make_script(owner, app), await make_script(owner, app, name="other")
    made = await make_trigger(owner, app, "kv", script_id=script, collection_glob="a")

    async def key(*scopes: str) -> httpx.AsyncClient:
        answer = await owner.post(f"{API}/api-keys", json={"name": "k", "scopes": scopes, "app_id": app})
        return client_of(url, answer.json()["token"])

    async with await key("app:admin") as narrow, await key("app:admin", "script:read", "script:write") as wide:
        async with nothing_changes(connection):
            answer = await narrow.patch(path(app, made["id"]), json={"script_id": other})
            assert refused(answer, 422, "cannot_escalate", "script_id")["capability"] == "execute"
        assert (await narrow.patch(path(app, made["id"]), json={"enabled": False, "collection_glob": "b"})).status_code == 200
        assert (await wide.patch(path(app, made["id"]), json={"script_id": other})).status_code == 200
        own = await make_trigger(narrow, app, "kv", script_id=script, collection_glob="c")
        assert (await narrow.patch(path(app, own["id"]), json={"script_id": other})).status_code == 200
    assert (await owner.patch(path(app, made["id"]), json={"script_id": script})).json()["registrant"] == made["registrant"]
