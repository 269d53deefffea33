"""What every answer says to browsers, and that pages of apps cannot act with the cookie of whoever looks at them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
import pytest

from tests.http.admin_support import API, UNKNOWN_ID, refused
from tests.postgres import cloned
from tests.runtime.serving import OWNER, SERVED, Served, Site, serving

pytestmark = pytest.mark.anyio

SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
PAGE = "def handler(ctx):\n    return {'statusCode': 200, 'headers': {'Content-Type': 'text/html'}, 'body': '<p>'}\n"
OWN = "def handler(ctx):\n    return {'statusCode': 200, 'headers': {'X-Content-Type-Options': 'none', 'Content-Security-Policy': 'x'}, 'body': '<p>'}\n"
POLICIES = {
    "Content-Security-Policy": "default-src *",
    "X-Content-Type-Options": "none",
    "Access-Control-Allow-Origin": "*",
    "Clear-Site-Data": '"cookies"',
    "Service-Worker-Allowed": "/",
    "Set-Cookie": "a=b",
    "Strict-Transport-Security": "max-age=9",
    "X-Mine": "kept",
}
ADMIN_HOST = "admin.localhost"


@pytest.fixture(scope="module")
async def served(server_dsn: str, template: str) -> AsyncIterator[Served]:
    async with cloned(server_dsn, template) as dsn, serving(dsn) as opened:
        yield opened


@pytest.fixture
async def site(served: Served) -> AsyncIterator[Site]:
    async with served.site() as opened:
        yield opened


def said(answer: httpx.Response) -> dict[str, str]:
    return {name: answer.headers[name] for name in SECURITY if name in answer.headers}


async def test_every_route_of_the_control_plane_says_it_to_everybody(served: Served) -> None:
    token = await served.token()
    async with httpx.AsyncClient(base_url=served.url) as client:
        paths = (await client.get("/api/v1/schema")).json()["paths"]
        calls = [(method.upper(), path) for path, methods in paths.items() if not path.startswith("/realtime/") for method in methods]
        assert len(calls) > 60
        for method, path in calls:
            for headers in ({}, {"authorization": f"Bearer {token}"}):
                answer = await client.request(method, path.replace("{", "").replace("}", UNKNOWN_ID), headers=headers)
                assert said(answer) == SECURITY, (method, path)


async def test_what_a_direct_run_answers_is_no_page(site: Site, served: Served) -> None:
    script = await site.app.script(PAGE, name="page")
    answer = await site.client.post(f"/api/v1/execute/{script}", headers={"authorization": f"Bearer {await served.token()}"})
    assert (answer.text, said(answer)) == ("<p>", SECURITY)


async def test_what_a_direct_run_says_of_the_instances_own_host_is_left_out(site: Site, served: Served) -> None:
    script = await site.app.script(f"def handler(ctx):\n    return {{'statusCode': 200, 'headers': {POLICIES!r}, 'body': '<p>'}}\n", name="policies")
    answer = await site.client.post(f"/api/v1/execute/{script}", headers={"host": ADMIN_HOST, "authorization": f"Bearer {await served.token()}"})
    assert said(answer) == SECURITY
    assert answer.headers.get_list("content-security-policy") == [SECURITY["content-security-policy"]]
    assert {name for name in POLICIES if name in answer.headers} == {"Content-Security-Policy", "X-Content-Type-Options", "X-Mine"}
    # On a host of its own an app may say of itself what it likes.
    path = await site.at("/policies", f"def handler(ctx):\n    return {{'statusCode': 200, 'headers': {POLICIES!r}, 'body': '<p>'}}\n")
    assert POLICIES.items() <= {name.title(): value for name, value in (await site.client.get(path)).headers.items()}.items()


@pytest.mark.parametrize("cookie", ["picloud_session=x", " picloud_session = x; Path=/", "=picloud_session=x", "\t= picloud_session=x; Path=/"])
async def test_no_script_sets_the_session_not_even_as_a_cookie_without_a_name(site: Site, cookie: str) -> None:
    # A browser sends a cookie without a name as its bare value, and that reads like any other.
    source = f"def handler(ctx):\n    return {{'statusCode': 200, 'headers': {{'Set-Cookie': {cookie!r}}}, 'body': ''}}\n"
    answer = await site.client.get(await site.at(f"/c{abs(hash(cookie))}", source))
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/execute/x", "/api/v1/executions/x", "/api/v1/schema", "/healthz", "/readyz", "/metrics", "/%00"])
async def test_so_do_all_other_answers_of_ours(served: Served, path: str) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        assert said(await client.get(path)) == SECURITY


async def test_even_to_what_is_no_request(served: Served) -> None:
    where = urlsplit(served.url)
    assert where.hostname is not None
    assert where.port is not None
    async with await anyio.connect_tcp(where.hostname, where.port) as connection:
        await connection.send(b"nonsense\r\n\r\n")
        answer = b""
        with anyio.fail_after(10):
            async for chunk in connection:
                answer += chunk
    for name, value in SECURITY.items():
        assert f"{name}: {value}\r\n".encode() in answer


async def test_the_dashboards_paths_have_a_policy_of_their_own(site: Site) -> None:
    for path in ("/admin", "/admin/apps/x"):
        answer = await site.client.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert "content-security-policy" not in (await site.client.get("/administer")).headers


async def test_an_apps_pages_are_its_own(site: Site) -> None:
    assert said(await site.client.get(await site.at("/page", PAGE))) == {"x-content-type-options": "nosniff"}
    assert said(await site.client.get(await site.at("/own", OWN))) == {"x-content-type-options": "none", "content-security-policy": "x"}


async def test_on_an_apps_host_no_cookie_is_set_and_none_counts(site: Site) -> None:
    on_app = await site.client.post(f"{API}/auth/login", json=OWNER)
    assert on_app.status_code == 200
    assert "set-cookie" not in on_app.headers
    token = on_app.json()["token"]
    cookie = {"cookie": f"picloud_session={token}", "origin": f"http://{site.app.host}"}
    # What a page of the app could do with it.
    refused(await site.client.get(f"{API}/apps", headers=cookie), 403, "shared_origin", "host")
    refused(await site.client.post(f"{API}/apps", json={"name": "x", "slug": "x"}, headers=cookie), 403, "shared_origin", "host")
    refused(await site.client.post(f"{API}/auth/logout", headers=cookie), 403, "shared_origin", "host")
    script = await site.app.script("def handler(ctx):\n    return 1\n", name="direct")
    refused(await site.client.post(f"/api/v1/execute/{script}", headers=cookie), 401, "unauthenticated")
    refused(await site.client.get("/realtime/kv/c", headers=cookie), 404, "topic_not_found")
    # A bearer's token is nothing that a browser adds by itself.
    assert (await site.client.get(f"{API}/apps", headers={"authorization": f"Bearer {token}"})).status_code == 200
    assert (await site.client.post(f"/api/v1/execute/{script}", headers={"authorization": f"Bearer {token}"})).json() == 1


async def test_nor_on_a_host_that_it_had_before(served: Served) -> None:
    # Pages that were opened there are of that origin still.
    admin = {"authorization": f"Bearer {await served.token()}"}
    async with httpx.AsyncClient(base_url=served.url) as client:
        made = await client.post(f"{API}/apps", json={"name": "n", "slug": "had-before"}, headers=admin)
        await client.patch(f"{API}/apps/{made.json()['id']}", json={"slug": "has-now"}, headers=admin)
        client.headers["host"] = "had-before.localhost"
        answer = await client.post(f"{API}/auth/login", json=OWNER)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (200, None)
        refused(await client.get(f"{API}/apps", headers={"cookie": f"picloud_session={answer.json()['token']}"}), 403, "shared_origin", "host")


async def test_on_a_host_of_nobody_the_cookie_is_what_it_was(site: Site, served: Served) -> None:
    script = await site.app.script("def handler(ctx):\n    return 1\n", name="direct")
    async with httpx.AsyncClient(base_url=served.url, headers={"host": ADMIN_HOST}) as client:
        answer = await client.post(f"{API}/auth/login", json=OWNER)
        assert answer.headers["set-cookie"].startswith("picloud_session=")
        cookie = {"cookie": f"picloud_session={answer.json()['token']}", "origin": f"http://{ADMIN_HOST}"}
        assert (await client.get(f"{API}/apps", headers=cookie)).status_code == 200
        assert (await client.post(f"/api/v1/execute/{script}", headers=cookie)).json() == 1
        refused(await client.post(f"{API}/apps", json={"name": "x", "slug": "x"}, headers={**cookie, "origin": "http://evil.example"}), 403, "foreign_origin")


async def test_an_app_that_takes_over_a_host_does_not_take_over_its_cookies(site: Site, served: Served) -> None:
    host = "taken.example"
    async with httpx.AsyncClient(base_url=served.url, headers={"host": host}) as client:
        token = (await client.post(f"{API}/auth/login", json=OWNER)).json()["token"]
        cookie = {"cookie": f"picloud_session={token}"}
        assert (await client.get(f"{API}/apps", headers=cookie)).status_code == 200
        await site.claim(host)
        refused(await client.get(f"{API}/apps", headers=cookie), 403, "shared_origin")


async def test_the_public_base_url_is_no_page_of_ours_where_it_was_given_to_an_app(server_dsn: str, template: str) -> None:
    settings = msgspec.structs.replace(SERVED, http=msgspec.structs.replace(SERVED.http, public_base_url="https://cloud.example"))
    async with cloned(server_dsn, template) as dsn, serving(dsn, settings) as served, served.site() as site, httpx.AsyncClient(base_url=served.url) as client:
        client.headers.update({"host": "desk.cloud.example", "cookie": f"picloud_session={await served.token()}", "origin": "https://cloud.example"})
        made = {"name": "x", "slug": "x"}
        assert (await client.post(f"{API}/apps", json=made)).status_code == 201
        await site.claim("cloud.example")
        refused(await client.post(f"{API}/apps", json=made), 403, "shared_origin", "host")
        assert "set-cookie" not in (await client.post(f"{API}/auth/login", json=OWNER)).headers
        for odd in ("http://[::1", "null", "http://a b", "https://[::1]:1"):
            refused(await client.post(f"{API}/apps", json=made, headers={"origin": odd}), 403)


async def test_on_this_machines_own_names_the_cookie_counts_and_no_service_worker_stays(site: Site, served: Served) -> None:
    script = await site.app.script("def handler(ctx):\n    return 1\n", name="direct")
    await site.claim("localhost")
    path = await site.at("/page", PAGE)
    async with httpx.AsyncClient(base_url=served.url, headers={"host": "localhost"}) as client:
        answer = await client.post(f"{API}/auth/login", json=OWNER)
        cookie = {"cookie": f"picloud_session={answer.json()['token']}", "origin": "http://localhost"}
        assert answer.headers["set-cookie"].startswith("picloud_session=")
        assert (await client.get(f"{API}/apps", headers=cookie)).status_code == 200
        assert (await client.post(f"/api/v1/execute/{script}", headers=cookie)).json() == 1
        assert (await client.get(path)).status_code == 200
        refused(await client.get(path, headers={"service-worker": "script"}), 403, "shared_origin", "host")
