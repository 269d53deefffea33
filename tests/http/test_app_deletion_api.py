"""Deleted apps: gone everywhere at once, but for their logs, which the instance's owners may still read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from domain.apps import AppPurged
from domain.ids import NIL_APP
from runtime.platform import Platform, open_platform
from tests.http.admin_support import API, UNKNOWN_ID, make_app, make_route, make_script, nothing_changes, refused
from tests.http.conftest import SETTINGS, serve
from tests.runtime.world import App, eventually
from tests.sse import subscribe
from web.main import build

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other_url(dsn: str) -> AsyncIterator[str]:
    """Where a second process of the same instance answers."""
    async with open_platform(dsn, SETTINGS) as other, serve(build(other)) as url:
        yield url


async def delete(client: httpx.AsyncClient, app: str, *, force: bool = False) -> None:
    answer = await client.delete(f"{API}/apps/{app}", params={"force": "true"} if force else {})
    assert answer.status_code == 204, answer.text


async def test_an_app_with_scripts_is_deleted_by_force_alone(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await delete(owner, await make_app(owner, "empty"))
    scripts = [await make_script(owner, app, name) for name in ("a", "b")]
    async with nothing_changes(connection):
        for params in ({}, {"force": "false"}):
            assert refused(await owner.delete(f"{API}/apps/{app}", params=params), 409, "app_has_scripts")["script_count"] == 2
        for force in ("", "yes", "1"):
            refused(await owner.delete(f"{API}/apps/{app}", params={"force": force}), 422, field="force")
        refused(await owner.delete(f"{API}/apps/{UNKNOWN_ID}"), 404, "app_not_found")
        assert (await owner.get(f"{API}/scripts/{scripts[0]}")).status_code == 200
    await delete(owner, "one", force=True)
    refused(await owner.delete(f"{API}/apps/{app}"), 404, "app_not_found")


async def test_what_a_deleted_app_had_is_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    kept = await make_script(owner, await make_app(owner, "two"))
    script = await make_script(owner, app, source="def handler(ctx):\n    return 1\n")
    route = await make_route(owner, script, "/queued", dispatch_mode="async")
    accepted = await anonymous.post("/queued", headers={"host": "one.localhost"})
    poll = accepted.headers["location"]
    assert (await anonymous.get(poll)).status_code == 200
    await owner.put(f"{API}/apps/{app}/kv/c/k", json={"value": 1})
    await owner.patch(f"{API}/apps/{app}", json={"slug": "three"})
    # Its rows stay for now, because the purge waits: it is enough that the app is deleted.
    await connection.execute("BEGIN; LOCK TABLE dead_letters IN SHARE MODE")
    await delete(owner, app, force=True)
    assert await connection.fetchval("SELECT count(*) FROM routes") == 1
    async with nothing_changes(connection):
        for reference in (app, "one", "three"):
            for place in ("", "/kv", "/kv/c/k", "/docs", "/files", "/triggers", "/dead_letters", "/topics", "/executions", "/domains", "/secrets"):
                refused(await owner.get(f"{API}/apps/{reference}{place}"), 404, "app_not_found")
            refused(await owner.patch(f"{API}/apps/{reference}", json={"name": "n"}), 404, "app_not_found")
            refused(await owner.put(f"{API}/apps/{reference}/kv/c/k", json={"value": 2}), 404, "app_not_found")
        for place in (f"scripts/{script}", f"scripts/{script}/routes", f"scripts/{script}/versions"):
            refused(await owner.get(f"{API}/{place}"), 404)
        refused(await owner.delete(f"{API}/routes/{route}"), 404)
        refused(await owner.post(f"/api/v1/execute/{script}"), 404, "script_not_found")
        refused(await anonymous.get(poll), 404, "execution_not_found")
        for host in ("one.localhost", "three.localhost"):
            refused(await anonymous.get("/queued", headers={"host": host}), 404, "unknown_host")
        assert [item["id"] for item in (await owner.get(f"{API}/scripts")).json()["items"]] == [kept]
        assert [item["slug"] for item in (await owner.get(f"{API}/apps")).json()["items"]] == ["two"]


async def test_the_log_of_a_deleted_app_is_read_by_its_id(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, core: Platform) -> None:
    app = await make_app(owner, "one")
    await owner.put(f"{API}/apps/{app}/kv/c/k", json={"value": 1})
    events = (await owner.get(f"{API}/apps/{app}/events")).json()
    places = ("events", "events/1", "history/kv/c/k")
    before = [(await owner.get(f"{API}/apps/{app}/{place}")).json() for place in places]
    await delete(owner, app)
    await eventually(lambda: App(core, NIL_APP).events(AppPurged))
    assert [(await owner.get(f"{API}/apps/{app}/{place}")).json() for place in places] == before
    assert events["items"][-1]["topic"] == "kv.KvSet"
    for place in places:
        refused(await owner.get(f"{API}/apps/one/{place}"), 404, "app_not_found")
        refused(await anonymous.get(f"{API}/apps/{app}/{place}"), 401)
    topics = [item["topic"] for item in (await owner.get(f"{API}/events")).json()["items"]]
    assert topics.count("apps.AppDeleted") == topics.count("apps.AppPurged") == 1


async def test_the_names_of_a_deleted_app_are_free(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    await owner.patch(f"{API}/apps/{app}", json={"slug": "two"})
    for pattern in ("*.example.com", "example.org"):
        await owner.post(f"{API}/apps/{app}/domains", json={"pattern": pattern})
    await delete(owner, app)
    other = await make_app(owner, "one")
    await make_app(owner, "two")
    for pattern in ("a.example.com", "example.org"):
        assert (await owner.post(f"{API}/apps/{other}/domains", json={"pattern": pattern})).status_code == 201


async def test_every_process_lets_go_of_a_deleted_app_at_once(owner: httpx.AsyncClient, url: str, other_url: str, core: Platform) -> None:
    app = await make_app(owner, "one")
    await owner.post(f"{API}/apps/{app}/topics", json={"name": "news", "external_subscribable": True, "auth_mode": "public"})
    await make_route(owner, await make_script(owner, app), "/a")
    streams = [await subscribe(each, "one.localhost", "/realtime/topics/news") for each in (url, other_url)]
    async with httpx.AsyncClient(headers={"host": "one.localhost"}) as client:
        for each in (url, other_url):
            assert (await client.get(f"{each}/a")).status_code == 200
        await delete(owner, app, force=True)
        for each in (url, other_url):
            refused(await client.get(f"{each}/a"), 404, "unknown_host")
    endings: list[Any] = [(await stream.take(1))[0] for stream in streams]
    assert [(ending.name, ending.data["reason"]) for ending in endings] == [("end", "app_deleted")] * 2
    for stream in streams:
        stream.close()
    await eventually(lambda: App(core, NIL_APP).events(AppPurged))
