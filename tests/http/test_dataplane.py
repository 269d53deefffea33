"""Requests to scripts over a real port: host, route, script, answer."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.executions import ExecutionAbandoned
from domain.kv import KvSet
from runtime.settings import Gate
from tests.postgres import cloned
from tests.runtime.serving import SERVED, Served, Site, serving
from tests.runtime.world import eventually, values

pytestmark = pytest.mark.anyio

SHOW = """
def handler(ctx):
    r = ctx.request
    body = len(r.body) if isinstance(r.body, bytes) else r.body
    return {"method": r.method, "host": r.host, "headers": r.headers, "query": r.query, "params": r.params, "rest": r.rest, "body": body}
"""
SET_OR_FAIL = """
def handler(ctx):
    kv.collection('c').set('k', 1)
    if ctx.request.query:
        raise ValueError('no')
    return ctx.request.headers
"""
HELLO = "def handler(ctx):\n    return 'hello'\n"


@pytest.fixture(scope="module")
async def served(server_dsn: str, template: str) -> AsyncIterator[Served]:
    async with cloned(server_dsn, template) as dsn, serving(dsn) as opened:
        yield opened


@pytest.fixture
async def site(served: Served) -> AsyncIterator[Site]:
    async with served.site() as opened:
        yield opened


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]


async def test_a_script_sees_the_request_and_its_answer_is_sent(site: Site) -> None:
    await site.at("/items/:id", SHOW, path_kind="param")
    headers = [("X-Twice", "a"), ("x-twice", "b"), ("X-Request-Id", "mine-1")]
    answer = await site.client.post("/items/a%2Fb?x=1&x=2&y=%C3%A9&empty=", json={"n": [1]}, headers=headers)
    assert answer.status_code == 200
    seen = answer.json()
    assert (seen["method"], seen["host"], seen["params"]) == ("POST", site.app.host, {"id": "a/b"})
    assert seen["query"] == {"x": "2", "y": "é", "empty": ""}
    assert seen["headers"]["x-twice"] == "a, b"
    assert seen["body"] == {"n": [1]}
    assert answer.headers["x-request-id"] == "mine-1"
    assert len(answer.headers["x-execution-id"]) == 36


@pytest.mark.parametrize(
    ("body", "kind", "seen"),
    [
        (b"", "application/json", None),
        (b"{", "application/json", "{"),
        (b'"\\ud800"', "application/json", '"\\ud800"'),
        (b"[" * 5000, "application/json", "[" * 5000),
        (b"plain", "text/plain", "plain"),
        (b"\xff\xfe", "application/octet-stream", 2),
        (b'{"a":1}', "application/vnd.api+json; charset=utf-8", {"a": 1}),
    ],
)
async def test_bodies_are_json_then_text_then_bytes(site: Site, body: bytes, kind: str, seen: object) -> None:
    path = await site.at("/", SHOW)
    answer = await site.client.post(path, content=body, headers={"content-type": kind})
    assert answer.json()["body"] == seen, answer.text


@pytest.mark.parametrize(
    ("result", "status", "kind", "body"),
    [
        ("None", 204, None, b""),
        ("b'\\x00\\xff'", 200, "application/octet-stream", b"\x00\xff"),
        ("'text'", 200, "application/json", b'"text"'),
        ("{'statusCode': 201, 'body': 'text', 'headers': {'X-Mine': 'yes'}}", 201, "text/plain; charset=utf-8", b"text"),
        ("{'statusCode': 304, 'body': 'ignored'}", 304, "text/plain; charset=utf-8", b""),
        ("abort(451, {'why': 'law'})", 451, "application/json", b'{"why":"law"}'),
    ],
)
async def test_results_become_answers(site: Site, result: str, status: int, kind: str | None, body: bytes) -> None:
    answer = await site.client.get(await site.at("/", f"def handler(ctx):\n    return {result}\n"))
    assert (answer.status_code, answer.headers.get("content-type"), answer.content) == (status, kind, body)


async def test_a_script_cannot_set_what_belongs_to_the_server(site: Site) -> None:
    headers = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Connection": "close", "X-Request-Id": "forged", "X-Execution-Id": "forged", "Date": "x"}
    headers |= {"Set-Cookie": "picloud_session=forged; Path=/"}
    path = await site.at("/", f"def handler(ctx):\n    return {{'statusCode': 200, 'headers': {headers!r}, 'body': 'all of it'}}\n")
    answer = await site.client.get(path)
    assert answer.text == "all of it"
    assert "forged" not in str(answer.headers)


async def test_hosts_paths_and_methods_that_nothing_answers_are_404(site: Site) -> None:
    await site.at("/greet/*", HELLO, path_kind="prefix", method="GET")
    refused(await site.client.get("/greet/x", headers={"host": "nobody.example"}), 404, "unknown_host")
    refused(await site.client.get("/greet"), 404, "no_route")
    refused(await site.client.post("/greet/x"), 404, "no_route")
    refused(await site.client.get("/api/v1/nothing"), 404, "not_found")
    refused(await site.client.get("/greet/x", headers={"host": "a b"}), 400, "malformed")
    assert (await site.client.get("/greet/x")).text == '"hello"'
    head = await site.client.head("/greet/x")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "7")


@pytest.mark.parametrize("query", ["a=%00", "a=%ff", "a=%ED%A0%80", "&".join(f"k{n}=1" for n in range(1001))])
async def test_queries_that_nobody_could_store_are_refused(site: Site, query: str) -> None:
    path = await site.at("/", HELLO)
    refused(await site.client.get(f"{path}?{query}"), 400, "malformed")


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("def handler(ctx):\n    return 1 +\n", 422, "script_invalid"),
        ("def handler(ctx):\n    return missing\n", 502, "script_raised"),
        ("x = 1\n", 502, "script_raised"),
        ("def handler(ctx):\n    while True:\n        pass\n", 504, "script_timed_out"),
        ("def handler(ctx):\n    return [0] * 10 ** 9\n", 507, "budget_exceeded"),
    ],
)
async def test_endings_have_their_status(site: Site, source: str, status: int, code: str) -> None:
    answer = await site.client.get(await site.at("/", source, timeout_s=0.3))
    refused(answer, status, code)
    assert answer.json()["execution_id"] == answer.headers["x-execution-id"]


async def test_contention_is_503_with_retry_after(site: Site, served: Served) -> None:
    source = "def handler(ctx):\n    c = kv.collection('c')\n    c.set('k', (c.get('k') or 0) + 1)\n"
    path = await site.at("/", source, timeout_s=0.2)
    await site.client.get(path)
    async with served.platform.executor.hot.hold(site.app.id, ["kv:c:k"]):
        answer = await site.client.get(path)
    refused(answer, 503, "contention")
    assert answer.headers["retry-after"] == "1"
    assert await site.app.kv("c") == {"k": 1}


async def test_bodies_over_the_limit_are_413_however_they_are_sent(site: Site, served: Served) -> None:
    path = await site.at("/", SHOW)
    most = served.platform.settings.http.max_body_bytes

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(most // 65536 + 2):
            yield b"x" * 65536

    exact = await site.client.post(path, content=b"\xff" * most)
    assert exact.json()["body"] == most
    refused(await site.client.post(path, content=b"x" * (most + 1)), 413, "too_large")
    refused(await site.client.post(path, content=chunks()), 413, "too_large")
    assert (await site.client.get(path)).status_code == 200


async def test_direct_runs_are_for_those_who_may(site: Site, served: Served) -> None:
    script = await site.app.script("def handler(ctx):\n    return [ctx.invocation_type, ctx.request.headers.get('authorization')]\n")
    module = await site.app.script("X = 1\n", name="module", kind="module")
    owner = {"authorization": f"Bearer {await served.token()}"}
    answer = await site.client.post(f"/api/v1/execute/{script}", headers=owner)
    assert answer.json() == ["admin", None]
    assert answer.headers["x-execution-id"]
    refused(await site.client.post(f"/api/v1/execute/{script}"), 401, "unauthenticated")
    refused(await site.client.post(f"/api/v1/execute/{script}", headers={"authorization": "Bearer nonsense"}), 401, "unauthenticated")
    refused(await site.client.post(f"/api/v1/execute/{module}", headers=owner), 400, "not_an_endpoint")
    for missing in (uuid7(), "x", "%00", str(script)[:-1]):
        assert (await site.client.post(f"/api/v1/execute/{missing}", headers=owner)).status_code in {400, 404}


async def test_credentials_attach_on_public_routes_and_are_recorded_nowhere(site: Site, served: Served) -> None:
    token = await served.token()
    path = await site.at("/", SET_OR_FAIL)
    queued = await site.at("/queued", "def handler(ctx):\n    return sorted(ctx.request.headers)\n", "durable")
    secrets = {"authorization": "Basic c2VjcmV0LW9uZQ==", "cookie": f"a=secret-two; picloud_session={token}"}
    secrets |= {"x-api-key": "secret-three", "proxy-authorization": "secret-four"}
    seen = (await site.client.get(path, headers=secrets)).json()
    assert seen["authorization"] == secrets["authorization"]
    assert seen["cookie"] == "a=secret-two"
    attached = (await site.client.get(path, headers={"authorization": f"Bearer {token}"})).json()
    assert "authorization" not in attached
    assert "authorization" not in (await site.client.get(queued, headers=secrets)).json()
    assert (await site.client.get(f"{path}?fail=1", headers=secrets)).status_code == 502
    actors = {recorded.metadata.actor.partition(":")[0] for recorded in await site.app.events(KvSet)}
    assert actors == {"public", "user"}
    pool = served.platform.pool
    await eventually(lambda: pool.fetchval("SELECT count(*) FROM execution_records WHERE app_id = $1", site.app.id), lambda count: count == 4)
    records = str(await pool.fetch("SELECT execution_records::text FROM execution_records WHERE app_id = $1", site.app.id))
    events = str(await pool.fetch("SELECT convert_from(state, 'LATIN1') AS state, metadata::text FROM events WHERE app_id = $1", site.app.id))
    for secret in ("c2VjcmV0LW9uZQ", "secret-", token):
        assert secret not in records
        assert secret not in events


async def test_a_caller_who_goes_cancels_nothing(site: Site, served: Served) -> None:
    path = await site.at("/", "def handler(ctx):\n    n = 0\n    while n < 2000000:\n        n += 1\n    kv.collection('c').set('k', 1)\n", timeout_s=30)
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port)) as caller:
        caller.sendall(f"GET {path} HTTP/1.1\r\nhost: {site.app.host}\r\n\r\n".encode())
        await eventually(_in_use(served), bool)
    await eventually(lambda: site.app.kv("c"), lambda found: found == {"k": 1})
    (abandoned,) = await site.app.expect(ExecutionAbandoned)
    assert values([abandoned], "status") == [204]


def _in_use(served: Served) -> Callable[[], Awaitable[int]]:
    async def look() -> int:
        return served.platform.gate.in_use

    return look


async def test_a_caller_who_goes_in_mid_body_leaves_no_trace(site: Site, served: Served) -> None:
    path = await site.at("/", HELLO)
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port)) as caller:
        caller.sendall(f"POST {path} HTTP/1.1\r\nhost: {site.app.host}\r\ncontent-length: 100\r\n\r\nhalf".encode())
    assert (await site.client.get(path)).text == '"hello"'
    assert served.platform.gate.in_use == 0


async def test_a_full_gate_says_come_again(server_dsn: str, template: str) -> None:
    settings = msgspec.structs.replace(SERVED, gate=Gate(slots=2, queue=1, wait_s=0.1))
    async with cloned(server_dsn, template) as dsn, serving(dsn, settings) as served, served.site() as site:
        path = await site.at("/", "def handler(ctx):\n    while True:\n        pass\n", timeout_s=1.0)
        answers: list[httpx.Response] = []

        async def call() -> None:
            answers.append(await site.client.get(path))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(call)
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [503] * 6 + [504] * 2
        for answer in answers:
            if answer.status_code == 503:
                refused(answer, 503, "overloaded")
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["x-execution-id"]
        assert (await site.client.get(await site.at("/ok", HELLO))).status_code == 200
