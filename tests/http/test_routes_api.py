from __future__ import annotations

from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, make_route, make_script, nothing_changes, refused, send

pytestmark = pytest.mark.anyio


async def test_a_route_is_created_listed_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    body = {"host_kind": "wildcard", "host": "*.one.localhost", "host_param_name": "tenant", "path_kind": "param", "path": "/a/:id", "method": "get"}
    refused(await owner.post(f"{API}/scripts/{script}/routes", json=body), 422, "host_not_claimed", "host")
    body = {"host_kind": "strict", "host": "One.localhost", "path_kind": "param", "path": "/a/:id", "method": "GET", "dispatch_mode": "async"}
    answer = await owner.post(f"{API}/scripts/{script}/routes", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == body | {"host": "one.localhost", "id": made["id"], "app_id": app, "script_id": script, "host_param_name": None} | {
        "created_at": made["created_at"]
    }
    plain = (await owner.post(f"{API}/scripts/{script}/routes", json={"path": "/"})).json()
    assert {key: plain[key] for key in ("host_kind", "host", "path_kind", "method", "dispatch_mode")} == {
        "host_kind": "any",
        "host": None,
        "path_kind": "exact",
        "method": None,
        "dispatch_mode": "sync",
    }
    first = (await owner.get(f"{API}/scripts/{script}/routes", params={"limit": 1})).json()
    assert first["items"] == [made]
    second = (await owner.get(f"{API}/scripts/{script}/routes", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert (second["items"], second["next_cursor"]) == ([plain], None)
    assert (await owner.delete(f"{API}/routes/{made['id']}")).status_code == 204
    refused(await owner.delete(f"{API}/routes/{made['id']}"), 404)


async def test_ambiguous_routes_are_refused_across_scripts_of_an_app(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    first, second, elsewhere = await make_script(owner, one), await make_script(owner, one, "b"), await make_script(owner, two)
    route = await make_route(owner, first, "/a/:x", path_kind="param")
    async with nothing_changes(connection):
        document = refused(await owner.post(f"{API}/scripts/{second}/routes", json={"path": "/a/:y", "path_kind": "param"}), 409, "route_conflict")
        assert document["conflicting_route"]["id"] == route
        assert document["conflicting_route"]["path"] == "/a/:x"
        verdict = await owner.post(f"{API}/routes:check", json={"app_id": one, "path": "/a/:y", "path_kind": "param"})
        assert verdict.status_code == 200
        assert verdict.json()["ok"] is False
        assert verdict.json()["conflicting_route"]["id"] == route
        assert verdict.json()["problem"]["code"] == "route_conflict"
    await make_route(owner, elsewhere, "/a/:y", path_kind="param")
    await make_route(owner, second, "/a/:y/b", path_kind="param")
    assert (await owner.delete(f"{API}/routes/{route}")).status_code == 204
    await make_route(owner, second, "/a/:y", path_kind="param")


async def test_of_two_conflicting_routes_at_once_one_is_made(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    statuses: list[int] = []

    async def create(number: int) -> None:
        answer = await owner.post(f"{API}/scripts/{script}/routes", json={"path": f"/:p{number}", "path_kind": "param"})
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(create, number)
    assert sorted(statuses) == [201] + [409] * 7
    assert len((await owner.get(f"{API}/scripts/{script}/routes")).json()["items"]) == 1


async def test_a_route_and_the_end_of_its_script_never_pass_each_other(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")

    async def delete(script: str) -> None:
        assert (await owner.delete(f"{API}/scripts/{script}")).status_code == 204

    async def create(script: str, path: str) -> None:
        answer = await owner.post(f"{API}/scripts/{script}/routes", json={"path": path})
        assert answer.status_code in {201, 404}

    for number in range(5):
        script = await make_script(owner, app, f"s{number}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete, script)
            tasks.start_soon(create, script, f"/{number}")
    assert await connection.fetchval("SELECT count(*) FROM routes") == 0


async def test_a_module_has_no_routes(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    script = await make_script(owner, await make_app(owner, "one"), "util", "X = 1\n", kind="module")
    async with nothing_changes(connection):
        refused(await owner.post(f"{API}/scripts/{script}/routes", json={"path": "/a"}), 400, "not_an_endpoint")
    assert (await owner.get(f"{API}/scripts/{script}/routes")).json() == {"items": [], "next_cursor": None}


BAD_ROUTES: list[tuple[dict[str, Any], str, str | None]] = [
    ({"path": "/api/x"}, "path", "reserved_path"),
    ({"path": "/admin"}, "path", "reserved_path"),
    ({"path": "/admin/*", "path_kind": "prefix"}, "path", "reserved_path"),
    ({"path": "/realtime/*", "path_kind": "prefix"}, "path", "reserved_path"),
    ({"path": "/%61pi/x"}, "path", "reserved_path"),
    ({"path": "/healthz"}, "path", "reserved_path"),
    ({"path": "/metrics"}, "path", "reserved_path"),
    ({"path": "a"}, "path", None),
    ({"path": ""}, "path", None),
    ({"path": "/a?b"}, "path", None),
    ({"path": "/a//b"}, "path", None),
    ({"path": "/%zz"}, "path", None),
    ({"path": "/%00"}, "path", None),
    ({"path": "/%ff"}, "path", None),
    ({"path": "/" + "a" * 3000}, "path", None),
    ({"path": "/a/:x"}, "path", None),
    ({"path": "/a/:x/:x", "path_kind": "param"}, "path", None),
    ({"path": "/a", "path_kind": "prefix"}, "path", None),
    ({"path": "/a", "path_kind": "regex"}, "$.path_kind", None),
    ({"path": 1}, "$.path", None),
    ({}, "$.path", None),
    ({"path": "/a", "x": 1}, "$.x", None),
    ({"path": "/a", "method": "FETCH"}, "method", None),
    ({"path": "/a", "dispatch_mode": "later"}, "$.dispatch_mode", None),
    ({"path": "/a", "host": "one.localhost"}, "host", None),
    ({"path": "/a", "host_kind": "strict"}, "host", None),
    ({"path": "/a", "host_kind": "strict", "host": "example.com"}, "host", "host_not_claimed"),
    ({"path": "/a", "host_kind": "strict", "host": "two.localhost"}, "host", "host_not_claimed"),
    ({"path": "/a", "host_kind": "strict", "host": "a b"}, "host", None),
    ({"path": "/a", "host_kind": "wildcard", "host": "one.localhost"}, "host", None),
    ({"path": "/a", "host_param_name": "x"}, "host_param_name", None),
]


async def test_bad_routes_are_refused_and_the_check_says_why(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await make_app(owner, "two")
    script = await make_script(owner, app)
    async with nothing_changes(connection):
        for body, field, code in BAD_ROUTES:
            refused(await send(owner, "POST", f"/scripts/{script}/routes", body), 422, code, field)
            checked = await send(owner, "POST", "/routes:check", body | {"app_id": app})
            if field.startswith("$"):
                refused(checked, 422, field=field)
            else:
                assert checked.status_code == 200
                assert checked.json()["ok"] is False
                assert checked.json()["problem"]["field"] == field
        good = await owner.post(f"{API}/routes:check", json={"app_id": "one", "path": "/a"})
        assert (good.status_code, good.json()) == (200, {"ok": True})
        refused(await owner.post(f"{API}/routes:check", json={"app_id": UNKNOWN_ID, "path": "/a"}), 404)


async def test_a_match_names_the_route_and_what_it_captured(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    prefix = await make_route(owner, script, "/files/*", path_kind="prefix", method="GET")
    param = await make_route(owner, script, "/files/:name/raw", path_kind="param")
    async with nothing_changes(connection):
        ask = {"app_id": app, "host": "one.localhost:8000", "method": "GET"}
        answer = (await owner.post(f"{API}/routes:match", json=ask | {"path": "/files/a%2Fb/raw"})).json()
        assert (answer["route"]["id"], answer["params"], answer["rest"], answer["host_param"]) == (param, {"name": "a/b"}, None, None)
        answer = (await owner.post(f"{API}/routes:match", json=ask | {"path": "/files/a/b/c"})).json()
        assert (answer["route"]["id"], answer["rest"]) == (prefix, "a/b/c")
        answer = await owner.post(f"{API}/routes:match", json=ask | {"path": "/files/a", "method": "POST"})
        assert answer.status_code == 200
        assert answer.content == b"null"
        for bad, field in (
            ({"path": "a"}, "path"),
            ({"path": "/a?b=1"}, "path"),
            ({"path": "/%"}, "path"),
            ({"method": "get"}, "method"),
            ({"host": "a b"}, "host"),
        ):
            refused(await owner.post(f"{API}/routes:match", json=ask | {"path": "/a"} | bad), 422, field=field)
        refused(await owner.post(f"{API}/routes:match", json=ask), 422, field="$.path")
        refused(await owner.post(f"{API}/routes:match", json=ask | {"path": "/", "app_id": "nope"}), 404)


async def test_what_is_no_route_is_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    route = await make_route(owner, script)
    async with nothing_changes(connection):
        for reference in NO_IDS:
            status = 400 if reference == "%00" else 404
            refused(await owner.delete(f"{API}/routes/{reference}"), status)
            refused(await owner.get(f"{API}/scripts/{reference}/routes"), status)
            refused(await owner.post(f"{API}/scripts/{reference}/routes", json={"path": "/b"}), status)
        for cursor in BAD_CURSORS:
            refused(await owner.get(f"{API}/scripts/{script}/routes", params={"cursor": cursor}), 422, field="cursor")
        refused(await anonymous.delete(f"{API}/routes/{route}"), 401)
        refused(await anonymous.post(f"{API}/routes:match", json={}), 401)
