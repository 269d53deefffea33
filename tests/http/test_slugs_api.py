"""Renamed apps: found by old slugs, which are theirs until another app takes them over on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from runtime.platform import Platform, open_platform
from tests.http.admin_support import API, UNKNOWN_ID, make_app, make_route, make_script, nested, nothing_changes, refused, send
from tests.http.conftest import SETTINGS, serve
from web.main import build

pytestmark = pytest.mark.anyio


async def rename(client: httpx.AsyncClient, app: str, slug: str, **more: Any) -> dict[str, Any]:
    """The renamed app."""
    answer = await client.patch(f"{API}/apps/{app}", json={"slug": slug, **more})
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def verdict(client: httpx.AsyncClient, app: str, slug: Any) -> dict[str, Any]:
    answer = await client.post(f"{API}/apps/{app}/slug:check", json={"slug": slug})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_app_gets_another_name_and_slug(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    renamed = await owner.patch(f"{API}/apps/one", json={"name": " Shop "})
    assert (renamed.json()["name"], renamed.json()["slug"], renamed.json()["old_slugs"]) == ("Shop", "one", [])
    assert await rename(owner, "one", "two", name="Both") | {"created_at": ""} == renamed.json() | {"name": "Both", "slug": "two", "old_slugs": ["one"]} | {
        "created_at": ""
    }
    assert (await owner.get(f"{API}/apps/two")).json() == (await owner.get(f"{API}/apps/{app}")).json() == (await owner.get(f"{API}/apps")).json()["items"][0]
    async with nothing_changes(connection):
        for body in ({}, {"slug": "two"}, {"name": "Both", "slug": "two"}, {"takeover": True}):
            assert (await owner.patch(f"{API}/apps/{app}", json=body)).status_code == 200


async def test_an_old_slug_leads_to_the_same_place(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await rename(owner, app, "two")
    places = [("GET", ""), ("PATCH", ""), ("DELETE", "?force=true"), ("POST", "/slug:check"), ("GET", "/kv/c/a%2Fb?at=1"), ("GET", "/events?limit=1")]
    bodies: dict[str, Any] = {"PATCH": {"name": "x"}, "POST": {"slug": "x"}}
    async with nothing_changes(connection):
        for method, rest in places:
            answer = await owner.request(method, f"{API}/apps/one{rest}", json=bodies.get(method))
            assert answer.headers.get("location") == f"{API}/apps/two{rest}", (method, rest, answer.status_code, answer.text)
            assert refused(answer, 308, "moved")["slug"] == "two"
    followed = await owner.get(f"{API}/apps/one", follow_redirects=True)
    assert followed.json()["id"] == app


async def test_an_old_slug_outside_the_path_is_named(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_app(owner, "one")
    await rename(owner, "one", "two")
    async with nothing_changes(connection):
        assert refused(await owner.get(f"{API}/scripts", params={"app": "one"}), 404, "app_renamed")["slug"] == "two"
        refused(await owner.post(f"{API}/scripts", json={"app_id": "one", "name": "a", "source": ""}), 404, "app_renamed")


async def test_slugs_go_round(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "a")
    for slug, old in (("b", ["a"]), ("c", ["a", "b"]), ("a", ["b", "c"]), ("b", ["c", "a"])):
        assert (await rename(owner, app, slug))["old_slugs"] == old
    for slug in ("a", "c"):
        assert (await owner.get(f"{API}/apps/{slug}")).headers["location"] == f"{API}/apps/b"


async def test_an_old_slug_is_taken_over_only_on_purpose(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    first, second = await make_app(owner, "first"), await make_app(owner, "second")
    await rename(owner, first, "moved")
    async with nothing_changes(connection):
        for answer in (
            await owner.post(f"{API}/apps", json={"name": "n", "slug": "first"}),
            await owner.patch(f"{API}/apps/{second}", json={"slug": "first", "name": "n"}),
        ):
            assert refused(answer, 409, "slug_in_history", "slug")["app_id"] == first
        for slug in ("moved", "second"):
            refused(await owner.post(f"{API}/apps", json={"name": "n", "slug": slug, "takeover": True}), 409, "slug_taken", "slug")
        refused(await owner.patch(f"{API}/apps/{second}", json={"slug": "moved", "takeover": True}), 409, "slug_taken", "slug")
    await rename(owner, second, "first", takeover=True)
    assert (await owner.get(f"{API}/apps/first")).json()["id"] == second
    assert (await owner.get(f"{API}/apps/{first}")).json()["old_slugs"] == []
    third = await owner.post(f"{API}/apps", json={"name": "n", "slug": "second", "takeover": True})
    assert third.status_code == 201
    assert (await owner.get(f"{API}/apps/{second}")).json()["old_slugs"] == []
    refused(await owner.patch(f"{API}/apps/{first}", json={"slug": "first"}), 409, "slug_taken")


async def test_whether_a_slug_is_to_be_had(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app, other = await make_app(owner, "one"), await make_app(owner, "other")
    await rename(owner, app, "two")
    free = {"available": True, "reason": None, "takeover_possible": False}
    async with nothing_changes(connection):
        for slug in ("free", "one", "two"):
            assert await verdict(owner, app, slug) == free
        assert await verdict(owner, other, "one") == {"available": False, "reason": "in_history", "takeover_possible": True}
        assert await verdict(owner, other, "two") == {"available": False, "reason": "taken", "takeover_possible": False}
        for slug in ("", "A", "a.b", "-", "x" * 64, UNKNOWN_ID, "ü"):
            assert await verdict(owner, app, slug) == {"available": False, "reason": "invalid", "takeover_possible": False}
        refused(await owner.post(f"{API}/apps/{app}/slug:check", json={}), 422, field="$.slug")
        refused(await owner.post(f"{API}/apps/{UNKNOWN_ID}/slug:check", json={"slug": "a"}), 404, "app_not_found")


BAD_CHANGES: list[tuple[Any, str]] = [
    ({"x": 1}, "$.x"),
    ({"name": None}, "$.name"),
    ({"slug": None}, "$.slug"),
    ({"slug": 1}, "$.slug"),
    ({"takeover": "true"}, "$.takeover"),
    ({"name": nested(70)}, "$.name"),
    ({"name": ""}, "name"),
    ({"name": "a" * 101}, "name"),
    ({"name": "a\x00b"}, "$.name"),
    ({"slug": ""}, "slug"),
    ({"slug": "A"}, "slug"),
    ({"slug": "a" * 64}, "slug"),
    ({"slug": UNKNOWN_ID}, "slug"),
    ({"name": "fine", "slug": "a_b"}, "slug"),
    ([], "$"),
]


async def test_bad_changes_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        for body, field in BAD_CHANGES:
            refused(await send(owner, "PATCH", f"/apps/{app}", body), 422, field=field)
        refused(await owner.patch(f"{API}/apps/{UNKNOWN_ID}", json={"name": "n"}), 404, "app_not_found")


async def test_an_app_keeps_its_slug_while_routes_name_its_host(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    route = await make_route(owner, script, "/a", host_kind="strict", host="one.localhost")
    await make_route(owner, script, "/a")
    async with nothing_changes(connection):
        problem = refused(await owner.patch(f"{API}/apps/{app}", json={"slug": "two"}), 409, "host_in_use", "slug")
        assert ([each["id"] for each in problem["routes"]], problem["route_count"]) == ([route], 1)
    await owner.delete(f"{API}/routes/{route}")
    await rename(owner, app, "two")
    await make_route(owner, script, "/a", host_kind="strict", host="two.localhost")


@asynccontextmanager
async def two_processes(core: Platform, dsn: str) -> AsyncIterator[list[str]]:
    """The URLs of two that serve the same instance."""
    async with open_platform(dsn, SETTINGS) as other, serve(build(core)) as one, serve(build(other)) as two:
        yield [one, two]


async def test_every_process_sends_requests_to_the_host_of_now(core: Platform, dsn: str, owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    await make_route(owner, await make_script(owner, app, source="def handler(ctx):\n    return ctx.request.host\n"), "/a/*", path_kind="prefix")

    async def ask(url: str, host: str, path: str = "/a/b", method: str = "GET") -> httpx.Response:
        async with httpx.AsyncClient(base_url=url) as client:
            return await client.request(method, path, headers={"host": host})

    async with two_processes(core, dsn) as urls:
        for url in urls:
            assert (await ask(url, "one.localhost")).text == '"one.localhost"'
        for old, new in (("one", "two"), ("two", "three"), ("three", "one")):
            await rename(owner, app, new)
            for url in urls:
                assert (await ask(url, f"{new}.localhost")).status_code == 200
                answer = await ask(url, f"{old.title()}.localhost:8080", "/a%2Fb/?x=%20&y", "POST")
                assert answer.headers["location"] == f"//{new}.localhost:8080/a%2Fb/?x=%20&y"
                refused(answer, 308, "moved")
                assert (await ask(url, f"{old}.localhost")).headers["location"] == f"//{new}.localhost/a/b"
                assert (await ask(url, f"{old}.localhost", "/realtime/topics/t")).headers["location"] == f"//{new}.localhost/realtime/topics/t"
        answer = await owner.post(f"{API}/apps", json={"name": "n", "slug": "two", "takeover": True})
        assert answer.status_code == 201
        for url in urls:
            refused(await ask(url, "two.localhost"), 404, "no_route")
            assert (await ask(url, "three.localhost")).headers["location"] == "//one.localhost/a/b"
            refused(await ask(url, "other.localhost"), 404, "unknown_host")
