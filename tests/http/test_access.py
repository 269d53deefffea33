"""Every route of the control plane, asked over a real port in the name of all kinds of people and keys: whoever may not is refused and has changed nothing.

What each route needs is what it declares; who has that is what `tests.access` says, which is written from the contract.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from adapters.postgres.vault import User
from domain.authz import InstanceRole
from runtime.platform import Platform, open_platform
from runtime.settings import Process
from tests.access import BY_SCOPE, Caller, verdict
from tests.http.admin_support import API, heads, make_app, make_script
from tests.http.conftest import SETTINGS, client_of
from tests.http.people import ALL_SCOPES, make_user, session_of
from tests.http.probes import MAKERS, PROBES, Probe, World, upload
from web.admin.needs import needs_of
from web.admin.registry import admin_router
from web.documented import documented_of

pytestmark = pytest.mark.anyio

FILTERED: Final = {"GET /apps", "GET /scripts"}
"""Lists over all apps: everybody is answered, with what they may see."""
ENDS_SESSION: Final = "POST /auth/logout"
FOR_SESSIONS: Final = {"GET /auth/sessions", "DELETE /auth/sessions", "DELETE /auth/sessions/{session_id}", "POST /auth/password"}
"""For who has logged in: a key does not end its owner's sessions."""
BINDABLE: Final = [scope for scope in ALL_SCOPES if scope != "instance:admin"]

CONTRACT: Final = (
    (r"GET /apps/{app}/(kv|docs|files)\b.*", {"script:read"}),
    (r"(POST|PUT|PATCH|DELETE) /apps/{app}/(kv|docs|files)\b.*(?<!:find)", {"script:write"}),
    (r"\w+ /apps/{app}/(triggers|dead_letters|members|secrets)\b.*", {"app:admin"}),
    (r"\w+ /apps/{app}/topics(/{name})?", {"app:admin", "script:write"}),
    (r"GET /apps/{app}/(events|executions|stats)\b.*", {"log:read"}),
    (r"GET /apps/{app}/history/.*", {"log:read", "script:read"}),
    (r"GET /scripts(/{script})?", {"script:read"}),
    (r"(POST|PUT|DELETE) /scripts(/{script})?", {"script:write"}),
    (r"(POST|DELETE) (/scripts/{script})?/routes(/{route})?", {"route:write"}),
    (r"(GET|POST|DELETE) /api-keys\b.*", {"instance:admin"}),
    (r"(GET|POST|PATCH|DELETE) /admins\b.*", {"instance:admin"}),
    (r"(GET|POST|DELETE) /apps/{app}/domains\b.*", {"domain:manage"}),
    (r"POST /apps", {"instance:admin"}),
    (r"(PATCH|DELETE) /apps/{app}(/settings)?", {"app:admin"}),
    (r"\w+ /settings", {"instance:admin"}),
    (r"GET /events\b.*", {"log:read"}),
)
"""The scopes that routes take of a key, by the contract's own list of them."""

Declared = Sequence[str] | None


class Somebody(msgspec.Struct, frozen=True):
    """A client and what is known of him; `who` None: without a valid credential."""

    name: str
    client: httpx.AsyncClient
    who: Caller | None = None


@pytest.fixture
async def core(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """One that runs nothing by itself, so that logs move by requests alone."""
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path, process=Process(roles=("web",)))
    async with open_platform(dsn, settings) as platform:
        yield platform


@pytest.fixture
async def world(core: Platform, owner: httpx.AsyncClient) -> World:
    made = World(core, owner)
    await made.build("shop")
    return made


@pytest.fixture
async def everybody(core: Platform, owner: httpx.AsyncClient, url: str, world: World) -> AsyncIterator[list[Somebody]]:
    elsewhere = await make_app(owner, "elsewhere")
    async with AsyncExitStack() as stack:

        async def bearer(name: str, token: str, who: Caller | None = None) -> Somebody:
            return Somebody(name, await stack.enter_async_context(client_of(url, token)), who)

        async def person(name: str, role: InstanceRole = "member", app: str | None = None, app_role: str | None = None) -> tuple[Somebody, User]:
            user = await make_user(core, name, role)
            if app is not None:
                added = await owner.post(f"{API}/apps/{app}/members", json={"user_id": str(user.id), "role": app_role})
                assert added.status_code == 201, added.text
            who = Caller(instance_role=role, app_role=app_role if app == world.app else None)
            return await bearer(name, await session_of(core, user), who), user

        async def key(name: str, maker: httpx.AsyncClient, who: Caller, app: str | None = None) -> Somebody:
            made = await maker.post(f"{API}/api-keys", json={"name": name, "scopes": sorted(who.scopes or ()), "app_id": app})
            assert made.status_code == 201, made.text
            return await bearer(name, made.json()["token"], who)

        people = [
            Somebody("nobody", await stack.enter_async_context(httpx.AsyncClient(base_url=url))),
            await bearer("bad token", "A" * 43),
            await bearer("bad key", "pic_" + "A" * 43),
        ]
        for name, app, role in (
            ("stranger", None, None),
            ("viewer", world.app, "viewer"),
            ("editor", world.app, "editor"),
            ("app admin", world.app, "app_admin"),
            ("app admin of another app", elsewhere, "app_admin"),
        ):
            people.append((await person(name.replace(" ", "-"), "member", app, role))[0])
        owners = Caller(instance_role="owner")
        everything = msgspec.structs.replace(owners, scopes=frozenset(BINDABLE))
        people.append(await key("bound elsewhere", owner, msgspec.structs.replace(everything, bound="elsewhere"), elsewhere))
        people.append(await key("bound", owner, msgspec.structs.replace(everything, bound="here"), world.app))
        alone = [Caller(instance_role="owner", scopes=frozenset({scope}), bound="here") for scope in BINDABLE]
        people.extend([await key(f"bound {each.scopes}", owner, each, world.app) for each in alone])
        alone = [Caller(instance_role="owner", scopes=frozenset({scope})) for scope in ("log:read", "instance:admin")]
        people.extend([await key(f"unbound {each.scopes}", owner, each) for each in alone])
        viewer = people[4]
        people.append(await key("viewer's key", viewer.client, Caller(app_role="viewer", scopes=frozenset(ALL_SCOPES))))
        people.append((await person("admin", "admin"))[0])
        people.append(Somebody("owner", owner, owners))
        yield people


def routes() -> Iterator[tuple[str, HTTPRouteHandler]]:
    """`METHOD /path` of every route of the control plane, and its handler."""
    for route in Litestar(route_handlers=[admin_router()], openapi_config=None).routes:
        for method, handler in getattr(route, "route_handler_map", {}).items():
            found = handler[0] if isinstance(handler, tuple) else handler
            if method != "OPTIONS":
                yield f"{method} {route.path_format.removeprefix(API)}", found


def calls() -> list[tuple[str, Declared]]:
    """What is asked: every route with what it needs, and what one route does that is two."""
    declared: list[tuple[str, Declared]] = []
    for route, handler in routes():
        needs = needs_of(handler)
        declared.append((route, None if needs is None else [str(capability) for capability in needs]))
    declared.extend((route, probe.needs) for route, probe in PROBES.items() if probe.needs is not None)
    return declared


def test_every_route_declares_what_it_needs() -> None:
    for route, handler in routes():
        assert "needs" in handler.opt, f"{route} declares nothing: give it opt=needs(...)"


def test_routes_declare_what_the_contract_says() -> None:
    for route, needs in calls():
        for pattern, scopes in CONTRACT:
            if needs is not None and re.fullmatch(pattern, route):
                declared = {scope for scope, capabilities in BY_SCOPE.items() if capabilities & set(needs)}
                assert declared, route
                assert declared <= scopes, (route, needs)


def test_every_probe_is_of_a_route() -> None:
    assert {route for route, probe in PROBES.items() if probe.needs is None} <= {route for route, _ in routes()}


async def test_the_document_shows_the_routes_that_are_asked(anonymous: httpx.AsyncClient) -> None:
    paths = (await anonymous.get("/api/v1/schema")).json()["paths"]
    shown = {f"{method.upper()} {path.removeprefix(API)}" for path, methods in paths.items() if path.startswith(API) for method in methods}
    asked = {route + suffix for route, handler in routes() if handler.include_in_schema for suffix in suffixes(handler)}
    assert shown == asked


def suffixes(handler: HTTPRouteHandler) -> list[str]:
    """Behind a route's path, what tells the operations apart that it stands for."""
    return [action.suffix for action in documented_of(handler).actions] or [""]


async def test_everybody_asks_for_everything(world: World, everybody: list[Somebody], connection: asyncpg.Connection) -> None:
    wrong: list[str] = []
    for route, needs in calls():
        probe = PROBES.get(route, Probe())
        for somebody in everybody:
            expected = _expected(route, needs, somebody)
            if expected is None:
                continue
            before = await heads(connection)
            found = await _ask(world, route, probe, somebody.client)
            if found != expected:
                wrong.append(f"{route} as {somebody.name}: {found}, expected {expected}")
            elif found != "allowed" and await heads(connection) != before:
                wrong.append(f"{route} as {somebody.name}: {found}, but a log has moved")
            if found == "allowed":
                for thing in probe.uses_up:
                    await MAKERS[thing](world)
    assert not wrong, "\n".join(wrong)


async def test_what_is_asked_for_otherwise(world: World, everybody: list[Somebody], owner: httpx.AsyncClient) -> None:
    """Lists over all apps, direct runs, live data."""
    assert len((await owner.get(f"{API}/apps")).json()["items"]) == 2
    script = await make_script(owner, world.app, "direct")
    for somebody in everybody:
        await _check_list(world, somebody, "/apps", "apps.read", "id")
        await _check_list(world, somebody, "/scripts", "scripts.read", "app_id")
        await _check_run(somebody, script)
        await _check_live(somebody, "/realtime/kv/c", "kv.read")
        await _check_live(somebody, "/realtime/docs/c", "docs.read")
        await _check_live(somebody, "/realtime/topics/internal", "events.read")


async def _check_list(world: World, somebody: Somebody, path: str, capability: str, id_of: str) -> None:
    """A list over all apps has what the caller may see."""
    answer = await somebody.client.get(f"{API}{path}")
    assert answer.status_code == (401 if somebody.who is None else 200), (path, somebody.name)
    if somebody.who is not None:
        seen = {item[id_of] for item in answer.json()["items"]}
        assert (world.app in seen) is (verdict(somebody.who, capability) == "allowed"), (path, somebody.name)


async def _check_run(somebody: Somebody, script: str) -> None:
    statuses = {"allowed": 200, "forbidden": 403, "missing": 404}
    answer = await somebody.client.post(f"/api/v1/execute/{script}")
    expected = 401 if somebody.who is None else statuses[verdict(somebody.who, "execute")]
    assert answer.status_code == expected, (somebody.name, answer.text)


async def _check_live(somebody: Somebody, path: str, capability: str) -> None:
    """It is registered nowhere, so whoever may not read it is not told that it is there."""
    async with somebody.client.stream("GET", path, headers={"host": "shop.localhost"}) as answer:
        may = somebody.who is not None and verdict(somebody.who, capability) == "allowed"
        assert answer.status_code == (200 if may else 404), (path, somebody.name)


def _expected(route: str, needs: Declared, somebody: Somebody) -> str | None:
    """How a call is to be answered; None when it is not to be made."""
    if needs is None or route in FILTERED:
        return None
    if somebody.who is None:
        return "unauthenticated"
    if not needs:
        return None if route == ENDS_SESSION else "forbidden" if route in FOR_SESSIONS and somebody.who.scopes is not None else "allowed"
    return verdict(somebody.who, *needs)


async def _ask(world: World, route: str, probe: Probe, client: httpx.AsyncClient) -> str:
    """How a call is answered: what is asked for is there, so that a 404 is said of people who may not see it."""
    method, _, template = route.partition(" ")
    path = template.format_map({**world.path, **probe.path(world)})
    more: dict[str, Any] = {"files": upload()} if probe.files else {} if probe.body is None else {"json": probe.body(world)}
    async with client.stream(method, f"{API}{path}", **more) as answer:
        if answer.is_success:
            return "allowed"
        code = msgspec.json.decode(await answer.aread())["code"]
    if code in probe.also:
        return "allowed"
    return {401: "unauthenticated", 403: "forbidden", 404: "missing"}.get(answer.status_code, f"{answer.status_code} {code}")
