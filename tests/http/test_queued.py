"""Asynchronous and durable routes: accepted once, answered once, asked for by those who hold the token."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from domain.executions import ExecutionFailed, ExecutionSucceeded, HttpRequestAccepted
from tests.postgres import cloned
from tests.runtime.serving import Served, Site, serving
from tests.runtime.world import eventually, values

pytestmark = pytest.mark.anyio

ECHO = "def handler(ctx):\n    kv.collection('n').increment('runs')\n    return {'got': ctx.request.body, 'attempt': ctx.attempt}\n"
FAIL = "def handler(ctx):\n    kv.collection('n').set('x', 1)\n    raise ValueError('no')\n"
SLOW = "def handler(ctx):\n    n = 0\n    while n < 3000000:\n        n += 1\n    return n\n"


@pytest.fixture(scope="module")
async def served(server_dsn: str, template: str) -> AsyncIterator[Served]:
    async with cloned(server_dsn, template) as dsn, serving(dsn) as opened:
        yield opened


@pytest.fixture
async def site(served: Served) -> AsyncIterator[Site]:
    async with served.site() as opened:
        yield opened


async def finished(site: Site, accepted: httpx.Response) -> dict[str, Any]:
    """How an accepted request stands once nothing more will come of it."""

    async def look() -> dict[str, Any]:
        answer = await site.client.get(accepted.headers["location"])
        assert answer.status_code == 200, answer.text
        standing: dict[str, Any] = answer.json()
        return standing

    return await eventually(look, lambda standing: standing["status"] not in {"queued", "retrying"})


async def test_async_is_accepted_run_and_asked_for(site: Site) -> None:
    answer = await site.client.post(await site.at("/a", ECHO, "async"), json=[1])
    assert answer.status_code == 202
    assert set(answer.json()) == {"accepted_at", "execution_id"}
    assert answer.headers["x-execution-id"] == answer.json()["execution_id"]
    standing = await finished(site, answer)
    assert (standing["status"], standing["attempt"], standing["execution_id"]) == ("succeeded", 1, answer.json()["execution_id"])
    assert standing["response"] == {"status": 200, "headers": {"content-type": "application/json"}, "body": {"got": [1], "attempt": 1}}


async def test_async_failures_are_retried_then_dead(site: Site) -> None:
    answer = await site.client.post(await site.at("/a", FAIL, "async"))
    failed = await site.app.expect(ExecutionFailed)
    assert values(failed, "next_attempt") == [2]
    standing = (await site.client.get(answer.headers["location"])).json()
    assert (standing["status"], standing["error"]["type"]) == ("retrying", "ValueError")
    assert standing["retry_at"]
    assert await site.app.kv("n") == {}


async def test_a_body_that_only_claims_to_be_json_is_told_as_text(site: Site) -> None:
    source = "def handler(ctx):\n    return {'statusCode': 200, 'headers': {'content-type': 'application/json'}, 'body': '{broken'}\n"
    answer = await site.client.post(await site.at("/a", source, "async"))
    assert (await finished(site, answer))["response"]["body"] == "{broken"


@pytest.mark.parametrize("change", ["", "?token=", "?token=x", "?token=" + "A" * 64, "?token=%00"])
async def test_without_its_token_an_execution_does_not_exist(site: Site, change: str) -> None:
    answer = await site.client.post(await site.at("/a", ECHO, "async"))
    where = answer.headers["location"].partition("?")[0]
    refused = await site.client.get(where + change)
    assert (refused.status_code, refused.json()["code"]) == (404, "execution_not_found")
    other = await site.client.post("/a")
    token = other.headers["location"].partition("?")[2]
    assert (await site.client.get(f"{where}?{token}")).status_code == 404


async def test_durable_waits_for_the_answer(site: Site) -> None:
    answer = await site.client.post(await site.at("/d", ECHO, "durable"), json={"a": 1})
    assert (answer.status_code, answer.json()) == (200, {"got": {"a": 1}, "attempt": 1})
    assert len(await site.app.events(HttpRequestAccepted)) == len(await site.app.events(ExecutionSucceeded)) == 1


async def test_the_scripts_own_failure_is_the_durable_answer(site: Site) -> None:
    answer = await site.client.post(await site.at("/d", FAIL, "durable"))
    assert (answer.status_code, answer.json()["code"]) == (502, "script_raised")
    assert answer.json()["execution_id"] == answer.headers["x-execution-id"]
    (failed,) = await site.app.events(ExecutionFailed)
    assert values([failed], "retry_at") == [None]
    assert await site.app.outbox() == []


async def test_durable_waits_no_longer_than_is_preferred(site: Site) -> None:
    answer = await site.client.post(await site.at("/d", SLOW, "durable", timeout_s=30), headers={"prefer": "respond-async, wait=0"})
    assert answer.status_code == 202
    assert (await finished(site, answer))["response"]["body"] == 3000000


async def test_an_idempotency_key_stands_for_one_request(site: Site) -> None:
    path = await site.at("/a", ECHO, "async")
    key = {"idempotency-key": "one"}
    first = await site.client.post(path, json=1, headers=key)
    again = await site.client.post(path, json=1, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    other = await site.client.post(path, json=2, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await finished(site, first)
    await site.app.drained()
    assert await site.app.kv("n") == {"runs": 1}


async def test_nobody_waits_for_a_durable_caller_who_has_gone(site: Site, served: Served) -> None:
    path = await site.at("/d", SLOW, "durable", timeout_s=30)
    where = urlsplit(served.url)
    requests = served.platform.requests

    async def waiting() -> int:
        return requests.waiting

    with socket.create_connection((where.hostname, where.port)) as caller:
        caller.sendall(f"POST {path} HTTP/1.1\r\nhost: {site.app.host}\r\nprefer: wait=300\r\ncontent-length: 0\r\n\r\n".encode())
        await eventually(waiting, lambda count: count == 1)
    await eventually(waiting, lambda count: count == 0)
    assert [type(event.event) for event in await site.app.expect(ExecutionSucceeded)] == [ExecutionSucceeded]


async def test_a_durable_repetition_gets_the_first_answer_or_409(site: Site) -> None:
    path = await site.at("/d", SLOW, "durable", timeout_s=30)
    key = {"idempotency-key": "k"}
    answers: list[httpx.Response] = []

    async def call() -> None:
        answers.append(await site.client.post(path, headers=key))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(call)
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"in_flight"}
    last = await site.client.post(path, headers=key)
    assert (last.status_code, last.json()) == (200, 3000000)
    assert len(await site.app.events(HttpRequestAccepted)) == 1


@pytest.mark.parametrize("key", [b"", b"x" * 257, b"t\xe9b"])
async def test_malformed_keys_are_refused_by_name(site: Site, key: bytes) -> None:
    answer = await site.client.post(await site.at("/a", ECHO, "async"), headers={b"idempotency-key": key})
    assert (answer.status_code, answer.json()["field"]) == (422, "idempotency-key")
    assert await site.app.events(HttpRequestAccepted) == []


async def test_queued_bodies_have_a_limit_of_their_own(site: Site) -> None:
    path = await site.at("/a", ECHO, "async")
    answer = await site.client.post(path, content=b"x" * (2 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert await site.app.events(HttpRequestAccepted) == []
