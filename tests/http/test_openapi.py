"""The OpenAPI document: valid, complete, and true about what the routes declare."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from domain.authz import RULES
from runtime.platform import Platform
from tests.http.admin_support import API, make_app, refused
from tests.http.fuzzed import SCHEMA
from web.documented import documented_of
from web.main import build

pytestmark = pytest.mark.anyio

HIDDEN = {
    ("POST", f"{API}/apps/{{app}}/triggers/{{trigger}}"),  # says which kinds there are
    ("GET", f"{SCHEMA}/openapi.json"),  # the document again
}
DATA_PLANE = ("/api/v1/execute/", "/api/v1/executions/", "/realtime/")
STREAM = "text/event-stream"
SYSTEM = {"/healthz", "/readyz", "/version", "/metrics"}


@pytest.fixture
async def document(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    answer = await anonymous.get(SCHEMA)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): operation for path, item in document["paths"].items() for method, operation in item.items()}


async def test_it_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


async def test_it_has_exactly_what_is_routed(document: dict[str, Any], core: Platform) -> None:
    control = build(core)._control
    assert isinstance(control, Litestar)
    routed = set()
    for route in control.routes:
        assert isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items():
            suffixes = [action.suffix for action in documented_of(handler).actions] or [""]
            routed |= {(method, route.path_format + suffix) for suffix in suffixes if method != "OPTIONS"}
    documented = {(method, path) for method, path in operations(document) if not path.startswith(DATA_PLANE)}
    assert documented == routed - HIDDEN


async def test_generators_find_good_names(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(ids)) == len(ids), f"two handlers of one name; give one `operation_id=`: {sorted({each for each in ids if ids.count(each) > 1})}"
    assert [each for each in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)*", each)] == []
    odd = [name for name in document["components"]["schemas"] if not re.fullmatch(r"([A-Z][a-z]+)+", name)]
    assert odd == [], f"a number says that two Structs are called the same: {odd}"
    tags = {tag["name"] for tag in document["tags"]}
    for call, operation in operations(document).items():
        assert set(operation["tags"]) <= tags, call
        assert operation["summary"], call


async def test_every_operation_says_who_may(document: dict[str, Any]) -> None:
    for call, operation in operations(document).items():
        needed = operation.get("x-picloud-needs")
        assert (needed is None) == ("security" in operation), call
        if needed is not None:
            rules = [RULES[capability] for capability in needed["capabilities"]]
            assert {rule.scope for rule in rules} == set(needed["scopes"]), call
            assert len(rules) != 1 or needed["role"] == rules[0].role, call


async def test_every_operation_says_what_may_go_wrong(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        statuses = set(operation["responses"])
        assert {"400", "500", "503"} <= statuses, path
        assert path in SYSTEM or "429" in statuses, path
        assert ("401" in statuses) >= ("x-picloud-needs" in operation), path
        assert ("404" in statuses) >= ("{" in path), path
        assert ("413" in statuses) >= ("requestBody" in operation), path
        assert method != "GET" or path.startswith(DATA_PLANE) or "409" not in statuses, path
    for name, response in document["components"]["responses"].items():
        assert list(response["content"]) == ["application/problem+json"], name
        assert "x-request-id" in response["headers"]


async def test_lists_declare_their_limits_as_they_are_read(document: dict[str, Any], owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "shop")
    for (method, path), operation in operations(document).items():
        query = {each["name"]: each["schema"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        if "limit" in query and method == "GET" and re.sub(r"\{app\}", "", path).find("{") < 0:
            url = path.replace("{app}", app)
            most = query["limit"]["maximum"]
            assert (await owner.get(url, params={"limit": most})).status_code == 200, path
            refused(await owner.get(url, params={"limit": most + 1}), 422, "invalid", "limit")


async def test_streams_begin_as_they_are_documented(document: dict[str, Any], owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "shop")
    streams = {call: each for call, each in operations(document).items() if STREAM in each["responses"].get("200", {}).get("content", ())}
    assert len(streams) >= 3
    for (method, path), operation in streams.items():
        url = re.sub(r"\{\w+\}", "things", path.replace("{app}", app))
        for query, status in (("", "200"), ("?after=-1", "422")):
            async with owner.stream(method, url + query, headers={"host": "shop.localhost"}) as answer:
                assert str(answer.status_code) == status, path
                [media_type] = {answer.headers["content-type"].partition(";")[0]}
                response = operation["responses"][status]
                response = document["components"]["responses"][response["$ref"].rpartition("/")[2]] if "$ref" in response else response
                assert media_type in response["content"], path


async def test_the_schema_is_not_behind_a_login_and_loads_nothing(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get(SCHEMA)
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json"
    assert (await anonymous.get(f"{SCHEMA}/openapi.json")).content == answer.content
    assert (await anonymous.get(f"{SCHEMA}/swagger")).status_code == 404


async def test_unknown_and_repeated_query_parameters_are_refused(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    app = await make_app(owner, "shop")
    for path, query, field in (
        ("/apps", "limt=1", "limt"),
        ("/apps", "limit=1&limit=2", "limit"),
        (f"/apps/{app}", "limit=1", "limit"),
        (f"/apps/{app}/events", "since=2026-01-01T00:00:00Z", "since"),  # it is called `from`
        (f"/apps/{app}/dead_letters", "%00=1", "\x00"),
        ("/apps", "=1", ""),
        ("/apps", "x" * 500 + "=1", "x" * 100),
    ):
        refused(await owner.get(f"{API}{path}?{query}"), 422, "invalid", field)
    refused(await owner.get(f"{API}/apps/{app}/topics/a?kind=topic"), 405)
    refused(await anonymous.get(f"{API}/apps?limt=1"), 401)
    assert (await owner.get(f"{API}/apps/{app}/events?from=2026-01-01T00:00:00Z&limit=1")).status_code == 200
    assert (await anonymous.get("/healthz?x=1")).status_code == 200, "probes append what they like"


async def test_options_names_the_methods_of_all_handlers_of_a_path(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    for path, methods in (
        ("/apps", {"GET", "POST"}),
        ("/scripts/x", {"GET", "PUT", "DELETE"}),
        ("/apps/x/docs/c/d", {"GET", "PUT", "PATCH", "DELETE"}),
        ("/apps/x/executions/x", {"GET", "DELETE"}),
    ):
        for client in (owner, anonymous):
            answer = await client.options(API + path)
            assert (answer.status_code, answer.content) == (204, b"")
            assert set(answer.headers["allow"].split(", ")) == methods | {"OPTIONS"}
    refused(await anonymous.options(f"{API}/nothing"), 404)


async def test_a_topic_takes_no_post_but_its_action(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "shop")
    answer = await owner.post(f"{API}/apps/{app}/topics/news", json={"message": 1})
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, OPTIONS, PATCH"
    assert (await owner.post(f"{API}/apps/{app}/topics/news%3Apublish", json={"message": 1})).status_code == 201
