"""Domains: hosts that apps claim, each for one app, none of which takes requests away from another."""

from __future__ import annotations

from typing import Any

import anyio
import asyncpg
import httpx
import msgspec
import pytest

from runtime.platform import Platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, make_route, make_script, nothing_changes, refused, send

pytestmark = pytest.mark.anyio


async def add(client: httpx.AsyncClient, app: str, pattern: str) -> str:
    """A new domain's id."""
    answer = await client.post(f"{API}/apps/{app}/domains", json={"pattern": pattern})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def status_of(core: httpx.AsyncClient, host: str) -> tuple[int, str]:
    answer = await core.get("/nothing", headers={"host": host})
    return answer.status_code, answer.json()["code"]


@pytest.fixture
async def app(owner: httpx.AsyncClient) -> str:
    return await make_app(owner, "one")


async def test_a_domain_is_added_listed_answered_for_and_removed(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, app: str) -> None:
    answer = await owner.post(f"{API}/apps/one/domains", json={"pattern": "Shop.Bücher.example."})
    assert answer.status_code == 201
    made = answer.json()
    assert made["pattern"] == "shop.xn--bcher-kva.example"
    wildcard = await add(owner, app, "*.example.com")
    first = (await owner.get(f"{API}/apps/one/domains", params={"limit": 1})).json()
    assert first["items"] == [made]
    second = (await owner.get(f"{API}/apps/one/domains", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert ([item["id"] for item in second["items"]], second["next_cursor"]) == ([wildcard], None)
    for host in ("shop.xn--bcher-kva.example", "a.b.example.com:8080"):
        assert await status_of(anonymous, host) == (404, "no_route")
    assert await status_of(anonymous, "example.com") == (404, "unknown_host")
    assert (await owner.delete(f"{API}/apps/one/domains/{wildcard}")).status_code == 204
    assert await status_of(anonymous, "a.b.example.com") == (404, "unknown_host")
    refused(await owner.delete(f"{API}/apps/one/domains/{wildcard}"), 404)
    await add(owner, await make_app(owner, "two"), "*.example.com")


async def test_a_claim_takes_nothing_from_another_app(owner: httpx.AsyncClient, connection: asyncpg.Connection, app: str) -> None:
    other = await make_app(owner, "two")
    for pattern in ("*.example.com", "a.example.org"):
        await add(owner, app, pattern)
    async with nothing_changes(connection):
        for pattern, code in (
            ("*.EXAMPLE.com", "domain_taken"),
            ("a.example.org", "domain_taken"),
            ("a.example.com", "domain_overlaps"),
            ("*.a.example.com", "domain_overlaps"),
            ("*.example.org", "domain_overlaps"),
            ("*.com", "domain_overlaps"),
        ):
            problem = refused(await owner.post(f"{API}/apps/{other}/domains", json={"pattern": pattern}), 409, code, "pattern")
            assert app not in str(problem)
        refused(await owner.post(f"{API}/apps/{app}/domains", json={"pattern": "*.example.com"}), 409, "domain_taken")
    for pattern in ("a.example.com", "*.a.example.com", "*.example.org"):
        await add(owner, app, pattern)
    for pattern in ("example.com", "example.org", "b.org"):
        await add(owner, other, pattern)


async def test_hosts_below_localhost_go_with_slugs(owner: httpx.AsyncClient, connection: asyncpg.Connection, app: str) -> None:
    await make_app(owner, "two")
    async with nothing_changes(connection):
        for pattern in ("one.localhost", "two.localhost", "free.localhost", "*.localhost", "*.two.localhost", "a.free.localhost"):
            refused(await owner.post(f"{API}/apps/{app}/domains", json={"pattern": pattern}), 422, "host_reserved", "pattern")
    await add(owner, app, "*.one.localhost")
    await add(owner, app, "a.b.one.localhost")


BAD_DOMAINS: list[tuple[Any, str]] = [
    ({}, "$.pattern"),
    ({"pattern": 1}, "$.pattern"),
    ({"pattern": "a.b", "x": 1}, "$.x"),
    ({"pattern": ""}, "pattern"),
    ({"pattern": "a b"}, "pattern"),
    ({"pattern": "*"}, "pattern"),
    ({"pattern": "*.*.a"}, "pattern"),
    ({"pattern": "a.*.b"}, "pattern"),
    ({"pattern": "http://a.b"}, "pattern"),
    ({"pattern": "a.b:80"}, "pattern"),
    ({"pattern": "*.127.0.0.1"}, "pattern"),
    ({"pattern": "x" * 300}, "pattern"),
    ({"pattern": "ü" * 10_000}, "pattern"),
    ([], "$"),
]


async def test_bad_domains_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection, app: str) -> None:
    domain = await add(owner, app, "a.example.com")
    other = await make_app(owner, "two")
    async with nothing_changes(connection):
        for body, field in BAD_DOMAINS:
            refused(await send(owner, "POST", f"/apps/{app}/domains", body), 422, field=field)
        for method, path in (("GET", "domains"), ("POST", "domains"), ("DELETE", f"domains/{domain}")):
            refused(await send(owner, method, f"/apps/{UNKNOWN_ID}/{path}", {"pattern": "b.example.com"}), 404, "app_not_found")
        for reference in NO_IDS:
            refused(await owner.delete(f"{API}/apps/{app}/domains/{reference}"), 400 if reference == "%00" else 404)
        refused(await owner.delete(f"{API}/apps/{other}/domains/{domain}"), 404)
        refused(await owner.delete(f"{API}/apps/{app}/domains/{domain}", params={"force": "yes"}), 422, field="force")
        for cursor in BAD_CURSORS:
            refused(await owner.get(f"{API}/apps/{app}/domains", params={"cursor": cursor}), 422, field="cursor")


async def test_a_domain_that_routes_name_is_removed_by_force_alone(owner: httpx.AsyncClient, connection: asyncpg.Connection, app: str) -> None:
    script = await make_script(owner, app)
    wildcard, exact = await add(owner, app, "*.example.com"), await add(owner, app, "a.example.com")
    covered = await make_route(owner, script, "/a", host_kind="strict", host="a.example.com")
    assert (await owner.delete(f"{API}/apps/{app}/domains/{exact}")).status_code == 204, "the wildcard still claims it"
    async with nothing_changes(connection):
        problem = refused(await owner.delete(f"{API}/apps/{app}/domains/{wildcard}"), 409, "domain_in_use")
        assert [route["id"] for route in problem["routes"]] == [covered]
    assert (await owner.delete(f"{API}/apps/{app}/domains/{wildcard}", params={"force": "true"})).status_code == 204
    assert [route["id"] for route in (await owner.get(f"{API}/scripts/{script}/routes")).json()["items"]] == [covered]


async def test_of_overlapping_claims_at_once_one_is_made(owner: httpx.AsyncClient) -> None:
    apps = [await make_app(owner, f"app-{number}") for number in range(3)]
    patterns = ("*.example.com", "a.example.com", "*.a.example.com")
    found: list[tuple[int, str]] = []

    async def claim(app: str, pattern: str) -> None:
        answer = await owner.post(f"{API}/apps/{app}/domains", json={"pattern": pattern})
        found.append((answer.status_code, answer.json().get("code", "")))

    async with anyio.create_task_group() as tasks:
        for app, pattern in zip(apps, patterns, strict=True):
            tasks.start_soon(claim, app, pattern)
    # `a.example.com` and `*.a.example.com` do not overlap, so both may be made, when the one above them is not.
    made = sum(status == 201 for status, _ in found)
    assert made in {1, 2}
    assert all(code == "domain_overlaps" for status, code in found if status != 201)
    claims = [(await owner.get(f"{API}/apps/{app}/domains")).json()["items"] for app in apps]
    assert made == 1 or not claims[0]


async def test_an_app_has_a_bounded_number_of_domains(owner: httpx.AsyncClient, connection: asyncpg.Connection, app: str) -> None:
    for number in range(100):
        await add(owner, app, f"h{number}.example.com")
    async with nothing_changes(connection):
        problem = refused(await owner.post(f"{API}/apps/{app}/domains", json={"pattern": "one.more.example"}), 409, "too_many_domains", "pattern")
        assert problem["most"] == 100


async def test_the_instances_admins_may_give_its_own_host_away(owner: httpx.AsyncClient, core: Platform, app: str) -> None:
    """Others may not: `tests/adapters/test_app_services.py`."""
    assert msgspec.structs.asdict(core.settings.http)["public_base_url"] is None
    for pattern in ("192.0.2.1", "2001:DB8::1", "intranet", "*.lan"):
        await add(owner, app, pattern)
    items = (await owner.get(f"{API}/apps/{app}/domains")).json()["items"]
    assert [item["pattern"] for item in items] == ["192.0.2.1", "2001:db8::1", "intranet", "*.lan"]
