"""What belongs to one app is missing in every other, also to whoever may see both: by id, by position, by cursor, by token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import pytest

from runtime.platform import Platform, open_platform
from runtime.settings import Process
from tests.http.admin_support import API, make_app, make_route, make_script, nothing_changes, refused
from tests.http.conftest import SETTINGS, client_of
from tests.http.people import make_user, session_of
from tests.http.probes import World, upload

pytestmark = pytest.mark.anyio

BY_ID: Final[tuple[tuple[str, str, Any], ...]] = (
    ("GET", "/triggers/{trigger}", None),
    ("PATCH", "/triggers/{trigger}", {"enabled": False}),
    ("DELETE", "/triggers/{trigger}", None),
    ("GET", "/dead_letters/{dead_letter}", None),
    ("POST", "/dead_letters/{dead_letter}/replay", None),
    ("POST", "/dead_letters/{dead_letter}/resolve", {"reason": "x"}),
    ("GET", "/executions/{execution}", None),
    ("GET", "/executions/{execution}/chain", None),
    ("DELETE", "/executions/{execution}", None),
    ("GET", "/files/c/{file_id}", None),
    ("GET", "/files/c/{file_id}/content", None),
    ("PUT", "/files/c/{file_id}", "upload"),
    ("DELETE", "/files/c/{file_id}", None),
    ("GET", "/kv/c/k", None),
    ("DELETE", "/kv/c/k", None),
    ("GET", "/docs/c/d", None),
    ("PATCH", "/docs/c/d", {"merge": {}}),
    ("DELETE", "/docs/c/d", None),
    ("DELETE", "/secrets/t", None),
    ("PATCH", "/topics/t", {"external_subscribable": False}),
    ("DELETE", "/topics/t", None),
    ("DELETE", "/subscriber-keys/{kid}", None),
    ("PATCH", "/members/{user}", {"role": "editor"}),
    ("DELETE", "/domains/{domain}", None),
    ("GET", "/history/kv/c/k", None),
    ("GET", "/history/docs/c/d", None),
    ("GET", "/history/files/c/{file_id}", None),
)
LISTS: Final = (
    ("/triggers", "id"),
    ("/dead_letters", "id"),
    ("/executions", "execution_id"),
    ("/events", "position"),
    ("/members", "user_id"),
    ("/files/c", "id"),
    ("/docs/c", "id"),
    ("/kv/c", "key"),
)


@pytest.fixture
async def core(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """One that runs nothing by itself."""
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path, process=Process(roles=("web",)))
    async with open_platform(dsn, settings) as platform:
        yield platform


@pytest.fixture
async def theirs(core: Platform, owner: httpx.AsyncClient) -> World:
    """An app with one of everything."""
    made = World(core, owner)
    await made.build("theirs")
    return made


@pytest.fixture
async def ours(owner: httpx.AsyncClient) -> str:
    """An app with nothing in it."""
    return await make_app(owner, "ours")


@pytest.fixture
async def admin(core: Platform, owner: httpx.AsyncClient, url: str, ours: str) -> AsyncIterator[httpx.AsyncClient]:
    """The app_admin of the empty one."""
    user = await make_user(core, "ada")
    assert (await owner.post(f"{API}/apps/{ours}/members", json={"user_id": str(user.id), "role": "app_admin"})).status_code == 201
    async with client_of(url, await session_of(core, user)) as client:
        yield client


async def test_nothing_is_found_by_another_apps_id(
    theirs: World, ours: str, admin: httpx.AsyncClient, owner: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async with nothing_changes(connection):
        for method, template, body in BY_ID:
            more: dict[str, Any] = {"files": upload()} if body == "upload" else {} if body is None else {"json": body}
            path = template.format_map(theirs.path)
            for client in (admin, owner):
                answer = await client.request(method, f"{API}/apps/{ours}{path}", **more)
                assert refused(answer, 404)["code"] != "app_not_found", template
            refused(await admin.request(method, f"{API}/apps/{theirs.app}{path}", **more), 404, "app_not_found")


async def test_scripts_and_routes_of_another_app_are_missing(theirs: World, admin: httpx.AsyncClient, ours: str, connection: asyncpg.Connection) -> None:
    script, route = theirs.path["script"], theirs.path["route"]
    unknown = refused(await admin.get(f"{API}/scripts/{ours}"), 404)
    async with nothing_changes(connection):
        for method, path, body in (
            ("GET", f"/scripts/{script}", None),
            ("PUT", f"/scripts/{script}", {"timeout_seconds": 1}),
            ("DELETE", f"/scripts/{script}", None),
            ("GET", f"/scripts/{script}/versions", None),
            ("GET", f"/scripts/{script}/versions/1", None),
            ("GET", f"/scripts/{script}/logs", None),
            ("GET", f"/scripts/{script}/routes", None),
            ("POST", f"/scripts/{script}/routes", {"path": "/x"}),
        ):
            assert refused(await admin.request(method, f"{API}{path}", json=body), 404) == unknown, "as one that never was"
        refused(await admin.delete(f"{API}/routes/{route}"), 404)
        refused(await admin.post(f"/api/v1/execute/{script}"), 404, "script_not_found")
        refused(await admin.get(f"{API}/scripts", params={"app": theirs.app}), 404, "app_not_found")


async def test_a_script_of_another_app_is_no_target(theirs: World, admin: httpx.AsyncClient, ours: str, connection: asyncpg.Connection) -> None:
    script = theirs.path["script"]
    async with nothing_changes(connection):
        refused(await admin.post(f"{API}/apps/{ours}/triggers/kv", json={"script_id": script, "collection_glob": "*"}), 422, field="script_id")
        refused(await admin.post(f"{API}/apps/{ours}/executions", json={"script_id": script}), 422, field="script_id")


async def test_cursors_and_positions_of_another_app_lead_nowhere_else(theirs: World, admin: httpx.AsyncClient, owner: httpx.AsyncClient, ours: str) -> None:
    for _ in range(2):
        for make in (World.trigger, World.dead_letter, World.execution, World.member, World.file):
            await make(theirs)
    await theirs.ask("PUT", "/docs/c/e", json={"data": {}})
    await theirs.ask("PUT", "/kv/c/l", json={"value": 1})
    for path, key in LISTS:
        first = (await owner.get(f"{API}/apps/{theirs.app}{path}", params={"limit": 1})).json()
        assert first["next_cursor"], path
        own = {item[key] for item in (await admin.get(f"{API}/apps/{ours}{path}")).json()["items"]}
        found = await admin.get(f"{API}/apps/{ours}{path}", params={"cursor": first["next_cursor"]})
        if path == "/events":
            refused(found, 422, field="after")  # a position that this log has not reached
            continue
        assert found.status_code == 200, path
        assert {item[key] for item in found.json()["items"]} <= own, path
    head = (await owner.get(f"{API}/apps/{theirs.app}/events", params={"limit": 200})).json()["items"][-1]["position"]
    refused(await admin.get(f"{API}/apps/{ours}/events/{head}"), 404)
    assert (await admin.get(f"{API}/apps/{ours}/kv/c", params={"at": 1})).status_code in {200, 422}


async def test_a_poll_url_is_for_one_execution_of_one_app(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    urls = []
    for slug in ("one", "two"):
        await make_route(owner, await make_script(owner, await make_app(owner, slug)), "/later", dispatch_mode="async")
        accepted = await anonymous.get("/later", headers={"host": f"{slug}.localhost"})
        assert accepted.status_code == 202
        urls.append(accepted.headers["location"])
    (first, token), (second, other) = (url.split("?") for url in urls)
    assert (await anonymous.get(f"{first}?{token}")).status_code == 200
    for wrong in (f"{first}?{other}", f"{second}?{token}", first):
        refused(await anonymous.get(wrong), 404, "execution_not_found")
