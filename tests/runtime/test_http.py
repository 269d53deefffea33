"""http for scripts: from the script's line to a server's answer, on loopback, and everything that a forger may pass instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from adapters.outbound import Policy
from adapters.outbound.client import HttpClient, Limits
from domain.authz import Principal
from domain.kv import SetKey
from runtime.platform import Platform
from runtime.services import Resources
from runtime.settings import Outbound, Process, Settings
from runtime.version import read_version
from tests.adapters.outbound_support import Asked, Server, response, serving
from tests.postgres import _database
from tests.runtime.world import App, new_app, reply, running

pytestmark = pytest.mark.anyio

CHANGING = """
def handler(ctx):
    u = ctx.request.query["url"]
    http.get(u)
    http.post(u)
    http.put(u, opts={"headers": {"Idempotency-Key": "x"}})
    http.delete(u)
    return ctx.execution_id
"""
CHARGING = """
def handler(ctx):
    c = kv.collection("c")
    n = c.get("n") or 0
    http.post(ctx.request.query["url"], {"x": 1})
    c.set("n", n + 1)
    return n
"""
SETTINGS = Settings(process=Process(beat_s=0.2, dead_s=1.0, tail_poll_ms=50), outbound=Outbound(allow_private=True))


@pytest.fixture(scope="module")
async def platform(server_dsn: str, template: str) -> AsyncIterator[Platform]:
    """One that lets scripts call loopback."""
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn, SETTINGS) as opened:
        yield opened


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Answers with what it was asked, as JSON."""
    async with serving(echo) as opened:
        yield opened


async def echo(asked: Asked, writer: asyncio.StreamWriter) -> None:
    said = {"method": asked.method, "target": asked.target, "headers": asked.headers, "body": asked.body.decode("latin-1")}
    writer.write(response(b"" if asked.method == "HEAD" else json.dumps(said).encode(), Content_Type="application/json", X_A="b"))


async def run(app: App, *lines: str, principal: Principal | None = None, **query: Any) -> Any:
    """What a handler of these lines returns."""
    return reply(await outcome(app, *lines, principal=principal, **query))


async def outcome(app: App, *lines: str, principal: Principal | None = None, **query: Any) -> Any:
    script = await app.script("\n".join(("def handler(ctx):", "    q = ctx.request.query", *(f"    {line}" for line in lines))))
    return await app.run(script, principal, query=query)


async def test_a_script_calls_and_is_answered(app: App, server: Server) -> None:
    answer = await run(
        app, "a = http.get(q['url'])", "return [a['status'], a['headers']['x-a'], a['body']['method'], a['body_raw'].decode()[:9]]", url=server.url
    )
    assert answer == [200, "b", "GET", '{"method"']
    assert "idempotency-key" not in server.asked[0].headers
    assert server.asked[0].headers["user-agent"].startswith(f"picloud/{read_version().product} (script:")


@pytest.mark.parametrize(
    ("call", "method", "content_type", "body"),
    [
        ("post(u, {'a': [1, 'ä']})", "POST", "application/json", '{"a":[1,"ä"]}'),
        ("put(u, [1])", "PUT", "application/json", "[1]"),
        ("patch(u, 'text ä')", "PATCH", "text/plain; charset=utf-8", "text ä"),
        ("post(u, b'raw')", "POST", "application/octet-stream", "raw"),
        ("delete(u)", "DELETE", None, ""),
        ("post(u)", "POST", None, ""),
        ("post_form(u, {'a b': '&=ä', 'n': 1})", "POST", "application/x-www-form-urlencoded", "a+b=%26%3D%C3%A4&n=1"),
        ("request('options', u)", "OPTIONS", None, ""),
        ("request('PUT', u, '', {'headers': {'Content-Type': 'a/b'}})", "PUT", "a/b", ""),
        ("request('DELETE', u, {})", "DELETE", "application/json", "{}"),
    ],
)
async def test_a_body_has_its_type(app: App, server: Server, call: str, method: str, content_type: str | None, body: str) -> None:
    said = await run(app, "u = q['url']", f"return http.{call}['body']", url=server.url)
    assert (said["method"], said["headers"].get("content-type")) == (method, content_type)
    assert said["body"].encode("latin-1").decode() == body


async def test_head_has_no_body(app: App, server: Server) -> None:
    assert await run(app, "a = http.head(q['url'])", "return [a['status'], a['body'], a['body_raw'].decode()]", url=server.url) == [200, None, ""]


@pytest.mark.parametrize(
    ("body", "content_type", "shown"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "text/plain", '{"a": 1}'),
        (b"{broken", "application/json", "{broken"),
        (b'"\\ud800"', "application/json", '"\\ud800"'),
        (b"[" * 100_000, "application/json", "[" * 100_000),
        ("ä".encode(), "text/html", "ä"),
        (b"\xff\xfe", "text/plain", "bytes"),
        (b"\xff\xfe", "application/json", "bytes"),
        (b"", "application/json", None),
    ],
)
async def test_an_answer_is_read_as_it_says_if_it_can_be(app: App, body: bytes, content_type: str, shown: Any) -> None:
    async with serving(response(body, Content_Type=content_type, status=500)) as server:
        said = await run(app, "b = http.get(q['url'])['body']", "return ['bytes' if isinstance(b, bytes) else b]", url=server.url)
    assert said == [shown]


async def test_calls_that_change_something_carry_a_key(app: App, server: Server) -> None:
    call = await app.script(CHANGING)
    execution_id = reply(await app.run(call, query={"url": server.url}))
    assert [asked.headers.get("idempotency-key") for asked in server.asked] == [None, f"{execution_id}-1", "x", f"{execution_id}-3"]


async def test_a_rerun_does_not_ask_again(app: App) -> None:
    """The script loses a race after its call: whoever charges would have charged twice."""
    script = await app.script(CHARGING)

    async def interfere(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await app.append(SetKey(collection="c", key="n", value=msgspec.Raw(b"10")))
        await echo(asked, writer)

    async with serving(interfere) as charging:
        done = await app.run(script, query={"url": charging.url})
    assert (reply(done), done.reruns, len(charging.asked)) == (10, 1, 1)
    assert await app.kv("c") == {"n": 11}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("get(1)", "TypeError('http: url must be str, not int')"),
        ("request(1, u)", "TypeError('http: method must be str, not int')"),
        ("request('CONNECT', u)", "ValueError('http: method must be one of"),
        ("request('GET /x HTTP/1.1\\r\\n', u)", "ValueError('http: method must be one of"),
        ("post(u, 1)", "TypeError('http: body must be dict, list, str, bytes or None')"),
        ("post(u, True)", "TypeError('http: body must be dict, list, str, bytes or None')"),
        ("post(u, {'a': float('nan')})", "ValueError("),
        ("post_form(u, [1])", "TypeError('http: body must be dict, not list')"),
        ("post_form(u, {'a': {}})", "TypeError('http: form fields must map str to str or numbers')"),
        ("get(u, opts=[])", "TypeError('http: opts must be dict, not list')"),
        ("get(u, opts={'timeout': 1})", "ValueError(\"http: unknown option 'timeout'; there are"),
        ("get(u, opts={1: 1})", "ValueError(\"http: unknown option '1'; there are"),
        ("get(u, opts={'timeout_ms': '1'})", "TypeError('http: timeout_ms must be int, not str')"),
        ("get(u, opts={'timeout_ms': True})", "TypeError('http: timeout_ms must be int, not bool')"),
        ("get(u, opts={'timeout_ms': 0})", "ValueError('http: timeout_ms must be within 1 and 300000')"),
        ("get(u, opts={'timeout_ms': 10**30})", "ValueError('http: timeout_ms must be within 1 and 300000')"),
        ("get(u, opts={'max_redirects': 21})", "ValueError('http: max_redirects must be within 0 and 20')"),
        ("get(u, opts={'max_redirects': -1})", "ValueError('http: max_redirects must be within 0 and 20')"),
        ("get(u, opts={'follow_redirects': 1})", "TypeError('http: follow_redirects must be bool, not int')"),
        ("get(u, opts={'headers': 1})", "TypeError('http: headers must be dict, not int')"),
        ("get(u, opts={'headers': {'a': 1}})", "TypeError('http: headers must map str to str, not str to int')"),
        ("get(u, opts={'headers': {'a': 'b\\r\\nc: d'}})", "ValueError('http: header a contains control characters"),
        ("get(u, opts={'headers': {'a': 'b\\x00'}})", "ValueError('http: header a contains control characters"),
        ("get(u, opts={'headers': {'a': '\\u20ac'}})", "ValueError('http: header a contains control characters"),
        ("get(u, opts={'headers': {'a b': 'c'}})", "ValueError(\"http: 'a b' is not a header name\")"),
        ("get(u, opts={'headers': {'': 'c'}})", "ValueError(\"http: '' is not a header name\")"),
        ("get(u, opts={'headers': {'a\\n': 'c'}})", "ValueError("),
        *(
            (f"get(u, opts={{'headers': {{'{name}': 'c'}}}})", f"ValueError('http: the header {name} cannot be set')")
            for name in ("Host", "content-length", "Transfer-Encoding", "CONNECTION", "upgrade", "TE", "Expect")
        ),
        ("get(u, opts={'headers': {str(n): 'x' for n in range(101)}})", "ValueError('http: at most 100 headers"),
        ("get(u, opts={'headers': {'a': 'x' * 40000}})", "ValueError('http: at most 100 headers"),
        ("post(u, 'x' * (10 * 1024 * 1024 + 1))", "RuntimeError('http: the body is larger than 10485760 bytes')"),
        ("get('http://169.254.169.254/latest')", "RuntimeError('http: blocked address (metadata)')"),
        ("get('http://2130706433/')", "RuntimeError('http: blocked address (spelling)')"),
        ("get('http://user:pw@127.0.0.1/')", "RuntimeError('http: credentials in the URL are not accepted"),
        ("get('file:///etc/passwd')", "RuntimeError('http: blocked scheme (file)')"),
        ("get('')", "RuntimeError('http: blocked scheme (none)')"),
    ],
)
async def test_a_wrong_argument_is_an_error_that_names_it(app: App, server: Server, call: str, error: str) -> None:
    said = await run(app, "u = q['url']", "try:", f"    return http.{call}", "except Exception as e:", "    return repr(e)", url=server.url)
    assert said.startswith(error), said
    assert server.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "1",
        "1, 2, 3, 4, 5",
        "'GET', u, 'json', 'x', None",
        "'GET', u, 'json', None, None",
        "'GET', u, 'raw', 'x', None",
        "'GET', u, 'none', 'x', None",
        "'GET', u, [], {}, None",
        "'GET', u, 'x', None, None",
        "'POST', u, 'form', {(1, 2): 'x'}, None",
    ],
)
async def test_a_forged_call_is_an_error(app: App, server: Server, arguments: str) -> None:
    said = await run(
        app, "u = q['url']", "try:", f"    return _sys_http_call({arguments})", "except Exception as e:", "    return repr(e)", "http", url=server.url
    )
    assert "TypeError(" in said
    assert server.asked == []


async def test_an_attached_principal_needs_the_capability(app: App, server: Server) -> None:
    viewer = Principal(kind="user", id=uuid4(), instance_role="member", app_roles={app.id: "viewer"})
    editor = Principal(kind="user", id=uuid4(), instance_role="member", app_roles={app.id: "editor"})
    lines = ("try:", "    return http.get(q['url'])['status']", "except PermissionError as e:", "    return str(e)")
    assert await run(app, *lines, principal=viewer, url=server.url) == "http: app_http_call is required"
    assert server.asked == []
    assert await run(app, *lines, principal=editor, url=server.url) == 200


async def test_a_timeout_can_be_caught_and_the_runs_own_cannot(app: App) -> None:
    async def silent(asked: Asked, _: asyncio.StreamWriter) -> None:
        await asked.gone()

    async with serving(silent) as server:
        lines = ("try:", "    http.get(q['url'], opts=q['opts'])", "except RuntimeError as e:", "    return str(e)")
        assert await run(app, *lines, url=server.url, opts={"timeout_ms": 100}) == "http: timed out"
        script = await app.script("def handler(ctx):\n    http.get(ctx.request.query['url'])\n", timeout_s=0.3)
        assert (await app.run(script, query={"url": server.url})).ending == "timed_out"


async def test_calls_are_counted(app: App, server: Server) -> None:
    before = await sample(app.platform, "answered"), await sample(app.platform, "blocked")
    await run(app, "http.get(q['url'])", "try:", "    http.get('http://0.0.0.0/')", "except RuntimeError:", "    return 1", url=server.url)
    assert (await sample(app.platform, "answered"), await sample(app.platform, "blocked")) == (before[0] + 1, before[1] + 1)


async def sample(platform: Platform, outcome: str) -> float:
    return platform.metrics.registry.get_sample_value("picloud_outbound_calls_total", {"outcome": outcome}) or 0.0


async def test_without_the_setting_loopback_is_out_of_reach(platform: Platform, server: Server) -> None:
    executor = platform.executor
    usual = executor.resources
    executor.resources = Resources(http=HttpClient(Policy(), Limits(), lambda *_: None))
    try:
        app = await new_app(platform)
        for url in (server.url, f"http://localhost:{server.port}/"):
            said = await run(app, "try:", "    http.get(q['url'])", "except RuntimeError as e:", "    return str(e)", url=url)
            assert said == "http: blocked address (loopback)"
    finally:
        executor.resources = usual
    assert server.asked == []


async def test_calling_private_addresses_is_warned_of(dsn: str) -> None:
    for settings, warnings in ((SETTINGS, 1), (msgspec.structs.replace(SETTINGS, outbound=Outbound()), 0)):
        with capture_logs() as logs:
            async with running(dsn, settings):
                pass
        assert [(line["event"], line["log_level"]) for line in logs].count(("outbound_allows_private", "warning")) == warnings


async def test_more_runs_than_there_are_seats_can_wait_for_the_outside(app: App) -> None:
    """All of them are asked for at once, and each is answered only when all have asked."""
    waiting, everybody = 0, anyio.Event()
    runs = 12

    async def together(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == runs:
            everybody.set()
        await everybody.wait()
        await echo(asked, writer)

    script = await app.script("def handler(ctx):\n    return http.get(ctx.request.query['url'])['status']\n", timeout_s=10)
    said: list[Any] = []

    async def client(url: str) -> None:
        said.append(reply(await app.run(script, query={"url": url})))

    async with serving(together) as server, anyio.create_task_group() as tasks:
        for _ in range(runs):
            tasks.start_soon(client, server.url)
    assert said == [200] * runs
