"""Pages of other origins: what they may ask of an app, and that they may ask nothing of the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from domain.app_settings import SETTINGS, AppSettings, AppSettingsChanged
from domain.cors import Cors
from domain.topics import Topic, TopicSaved, registry_stream
from tests.postgres import cloned
from tests.runtime.serving import Served, Site, serving
from tests.runtime.world import App

pytestmark = pytest.mark.anyio

SHOP = "https://shop.example"
HELLO = "def handler(ctx):\n    return 'hello'\n"
OWN = "def handler(ctx):\n    return {'statusCode': 200, 'headers': {'Access-Control-Allow-Origin': '*', 'Vary': 'accept'}, 'body': 'own'}\n"
FAILS = "def handler(ctx):\n    raise ValueError('no')\n"


@pytest.fixture(scope="module")
async def served(server_dsn: str, template: str) -> AsyncIterator[Served]:
    async with cloned(server_dsn, template) as dsn, serving(dsn) as opened:
        yield opened


@pytest.fixture
async def site(served: Served) -> AsyncIterator[Site]:
    async with served.site() as opened:
        yield opened


async def allow(app: App, **cors: Any) -> None:
    await app.put((SETTINGS, AppSettingsChanged(settings=AppSettings(cors=Cors(**cors)))))


def said(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-") or name == "vary"}


def preflight(origin: str = SHOP, method: str = "POST", headers: str | None = None) -> dict[str, str]:
    asked = {"origin": origin, "access-control-request-method": method}
    return asked if headers is None else {**asked, "access-control-request-headers": headers}


async def test_without_settings_scripts_speak_for_themselves(site: Site) -> None:
    assert said(await site.client.get(await site.at("/a", HELLO), headers={"origin": SHOP})) == {}
    assert said(await site.client.get(await site.at("/own", OWN), headers={"origin": SHOP})) == {"access-control-allow-origin": "*", "vary": "accept"}
    options = await site.at("/options", "def handler(ctx):\n    return ctx.request.method\n")
    assert (await site.client.options(options, headers=preflight())).json() == "OPTIONS"


async def test_pages_of_named_origins_may_read(site: Site) -> None:
    await allow(site.app, origins=(SHOP, "http://localhost:5173"), expose=("x-mine",))
    path = await site.at("/a", HELLO)
    for origin in (SHOP, "http://localhost:5173"):
        answer = await site.client.get(path, headers={"origin": origin})
        assert answer.json() == "hello"
        assert said(answer) == {"access-control-allow-origin": origin, "access-control-expose-headers": "x-mine", "vary": "origin"}
    for origin in ("https://shop.example.evil.com", "https://SHOP.example", "null", "https://shop.example:444"):
        assert said(await site.client.get(path, headers={"origin": origin})) == {"vary": "origin"}
    assert said(await site.client.get(path)) == {"vary": "origin"}


async def test_a_preflight_is_answered_without_a_route_and_without_a_script(site: Site) -> None:
    await allow(site.app, origins=(SHOP,), methods=("GET", "PUT"), headers=("x-mine", "content-type"), credentials=True, max_age_s=5)
    answer = await site.client.options("/anything", headers=preflight(headers="x-other"))
    assert (answer.status_code, answer.content) == (204, b"")
    assert said(answer) == {
        "access-control-allow-origin": SHOP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "x-mine, content-type",
        "access-control-max-age": "5",
        "vary": "origin, access-control-request-method, access-control-request-headers",
    }
    other = await site.client.options("/anything", headers=preflight("https://evil.example"))
    assert (other.status_code, list(said(other))) == (204, ["vary"])


async def test_options_that_are_no_preflight_go_to_routes(site: Site) -> None:
    await allow(site.app, origins=(SHOP,))
    path = await site.at("/a", "def handler(ctx):\n    return ctx.request.method\n")
    assert (await site.client.options(path, headers={"origin": SHOP})).json() == "OPTIONS"
    assert (await site.client.options(path, headers={"access-control-request-method": "GET"})).json() == "OPTIONS"


async def test_any_origin_and_any_header(site: Site) -> None:
    await allow(site.app, origins=("*",), headers=("*",), expose=())
    answer = await site.client.get(await site.at("/a", HELLO), headers={"origin": "null"})
    assert said(answer) == {"access-control-allow-origin": "*"}
    answer = await site.client.options("/a", headers=preflight("https://x.example", headers="Authorization, X-Any"))
    assert answer.headers["access-control-allow-headers"] == "Authorization, X-Any"
    assert "vary" not in answer.headers


async def test_settings_go_before_what_scripts_say_and_nothing_is_said_twice(site: Site) -> None:
    await allow(site.app, origins=(SHOP,), expose=())
    answer = await site.client.get(await site.at("/own", OWN), headers={"origin": SHOP})
    assert answer.headers.get_list("access-control-allow-origin") == [SHOP]
    assert answer.headers.get_list("vary") == ["accept", "origin"]
    assert "access-control-allow-origin" not in (await site.client.get("/own", headers={"origin": "https://evil.example"})).headers


async def test_errors_can_be_read_too(site: Site) -> None:
    await allow(site.app, origins=(SHOP,))
    failing = await site.at("/fails", FAILS)
    for path, status in ((failing, 502), ("/nowhere", 404)):
        answer = await site.client.get(path, headers={"origin": SHOP})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, SHOP)


async def test_live_projections_and_queued_answers_can_be_read(site: Site) -> None:
    await allow(site.app, origins=(SHOP,))
    topic = Topic(kind="topic", name="news", external_subscribable=True, auth_mode="public")
    await site.app.put((registry_stream("topic", "news"), TopicSaved(topic=topic)))
    async with site.client.stream("GET", "/realtime/topics/news", headers={"origin": SHOP}) as answer:
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert (await site.client.options("/realtime/topics/news", headers=preflight(method="GET"))).status_code == 204
    accepted = await site.client.get(await site.at("/queued", HELLO, "async"), headers={"origin": SHOP})
    assert accepted.headers["access-control-expose-headers"].startswith("location, ")
    polled = await site.client.get(accepted.headers["location"], headers={"origin": SHOP})
    assert (polled.status_code, polled.headers["access-control-allow-origin"]) == (200, SHOP)
    assert (await site.client.options(accepted.headers["location"], headers=preflight(method="GET"))).status_code == 204


async def test_the_admin_api_answers_no_other_origin(site: Site) -> None:
    await allow(site.app, origins=("*",))
    for path in ("/api/v1/admin/apps", "/api/v1/admin/auth/login", "/api/v1/nothing", "/healthz"):
        for answer in (await site.client.get(path, headers={"origin": SHOP}), await site.client.options(path, headers=preflight())):
            assert said(answer) == {}, path
