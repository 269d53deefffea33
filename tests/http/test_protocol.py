"""What reaches the port before it is a request: limits on heads and bodies, in bytes and in time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from runtime.platform import open_platform
from tests.http.conftest import SETTINGS, serve
from tests.postgres import cloned
from web.main import build
from web.protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, ProblemProtocol

pytestmark = pytest.mark.anyio

HEALTHZ = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
LOGIN = b"POST /api/v1/admin/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CHUNKED = LOGIN + b"transfer-encoding: chunked\r\n\r\n"
SOON_S = 0.05


def head(fields: bytes, target: bytes = b"/healthz") -> bytes:
    return b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (target, fields)


def of_size(size: int) -> bytes:
    """A whole request of so many bytes, all of them head."""
    return head(b"a: %b\r\n" % (b"x" * (size - len(head(b"a: \r\n")))))


def numbered(count: int) -> bytes:
    """A request with so many headers, `host` among them."""
    return head(b"".join(b"a%d: b\r\n" % number for number in range(count - 1)))


REFUSED: list[tuple[str, bytes, int, str]] = [
    ("head", of_size(MAX_HEAD_BYTES + 1), 431, "headers_too_large"),
    ("unfinished head", of_size(MAX_HEAD_BYTES + 5)[:-4], 431, "headers_too_large"),
    ("header's name", HEALTHZ[:-2] + b"a" * 300_000, 431, "headers_too_large"),
    ("20 MB", HEALTHZ[:-2] + b"a: " + b"x" * 20_000_000, 431, "headers_too_large"),
    ("headers", numbered(MAX_HEADERS + 1), 431, "headers_too_large"),
    ("many headers", HEALTHZ[:-2] + b"a:b\r\n" * 100_000, 431, "headers_too_large"),
    ("target", head(b"", b"/" + b"a" * MAX_TARGET_BYTES), 414, "uri_too_long"),
    ("unfinished target", b"GET /" + b"a" * 1_000_000, 414, "uri_too_long"),
    ("line ends", b"\r\n" * MAX_HEAD_BYTES, 431, "headers_too_large"),
    ("trailer", CHUNKED + b"0\r\na: " + b"x" * 1_000_000, 431, "headers_too_large"),
    ("trailers", CHUNKED + b"0\r\n" + b"a: b\r\n" * 10_000, 431, "headers_too_large"),
    ("chunk extension", CHUNKED + b"1;" + b"x" * 1_000_000, 431, "headers_too_large"),
    ("broken chunk", CHUNKED + b"zz\r\n", 400, "malformed"),
]
ACCEPTED: list[tuple[str, bytes]] = [
    ("60 headers", numbered(60)),
    ("most headers", numbered(MAX_HEADERS)),
    ("largest head", of_size(MAX_HEAD_BYTES)),
    ("longest target", head(b"", b"/healthz?" + b"a" * (MAX_TARGET_BYTES - len(b"/healthz?")))),
]


@pytest.fixture(scope="module")
async def url(server_dsn: str, template: str) -> AsyncIterator[str]:
    """One PiCloud for all: what is tested here stands before it, and changes nothing in it."""
    async with cloned(server_dsn, template) as dsn, open_platform(dsn, SETTINGS) as core, serve(build(core)) as base_url:
        yield base_url


class Caller:
    """A raw connection."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._received = BufferedByteReceiveStream(stream)

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def send_for_ever(self) -> None:
        while True:
            await self.send(b"x" * 65536)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        lines = (await self._received.receive_until(b"\r\n\r\n", 65536)).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await self._received.receive_exactly(int(headers["content-length"]))
        return int(lines[0].split(" ")[1]), headers, body

    async def refusal(self) -> dict[str, Any]:
        """The next answer is a problem, and the last one."""
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert headers["x-request-id"]
        document: dict[str, Any] = json.loads(body)
        assert document["status"] == status
        await self.ended()
        return document

    async def ended(self) -> None:
        with pytest.raises(anyio.EndOfStream):
            await self._received.receive()


@asynccontextmanager
async def call(url: str) -> AsyncIterator[Caller]:
    host, _, port = url.removeprefix("http://").partition(":")
    with anyio.fail_after(10):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            yield Caller(stream)


async def assert_serves(url: str) -> None:
    async with call(url) as caller:
        await caller.send(HEALTHZ)
        assert (await caller.answer())[0] == 200


@pytest.mark.parametrize(("request_", "status", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_is_too_large_is_refused_and_the_next_caller_served(url: str, request_: bytes, status: int, code: str) -> None:
    async with call(url) as caller:
        await caller.send(request_)
        document = await caller.refusal()
        assert (document["status"], document["code"]) == (status, code)
        await assert_serves(url)


@pytest.mark.parametrize("request_", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
async def test_up_to_the_limits_every_request_of_a_connection_is_served(url: str, request_: bytes) -> None:
    async with call(url) as caller:
        for _ in range(3):
            await caller.send(request_)
            assert (await caller.answer())[0] == 200


async def test_a_head_may_come_byte_by_byte(url: str) -> None:
    async with call(url) as caller:
        for byte in HEALTHZ:
            await caller.send(bytes([byte]))
        assert (await caller.answer())[0] == 200


async def test_pipelined_requests_are_answered_in_order_however_much_they_are_together(url: str) -> None:
    body = b"{" + b" " * 8000
    login = LOGIN + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    async with call(url) as caller, anyio.create_task_group() as tasks:
        tasks.start_soon(caller.send, (numbered(60) + login) * 50)
        assert [(await caller.answer())[0] for _ in range(100)] == [200, 400] * 50


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (numbered(MAX_HEADERS + 1), "headers_too_large"),
        (of_size(200_000), "headers_too_large"),
        (b"no http\r\n\r\n", "malformed"),
        (CHUNKED + b"zz\r\n", "malformed"),
    ],
    ids=["headers", "head", "no HTTP", "body"],
)
async def test_a_refusal_waits_for_the_answers_before_it(url: str, second: bytes, code: str) -> None:
    async with call(url) as caller:
        await caller.send(HEALTHZ + HEALTHZ + second)
        assert (await caller.answer())[0] == 200
        assert (await caller.answer())[0] == 200
        assert (await caller.refusal())["code"] == code


async def test_others_are_served_while_a_caller_sends_20_mb_of_head(url: str) -> None:
    async def attack() -> None:
        async with call(url) as caller:
            await caller.send(HEALTHZ[:-2] + b"a: ")
            for _ in range(20):
                await caller.send(b"x" * 1_000_000)
            assert (await caller.refusal())["code"] == "headers_too_large"

    async with httpx.AsyncClient(base_url=url) as client, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(attack)
        with anyio.fail_after(5):
            for _ in range(20):
                assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("before", [b"", HEALTHZ], ids=["first", "kept alive"])
async def test_an_unfinished_head_times_out(url: str, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    monkeypatch.setattr(ProblemProtocol, "HEAD_TIMEOUT_S", SOON_S)
    async with call(url) as caller:
        await caller.send(before + HEALTHZ[:-2])
        if before:
            assert (await caller.answer())[0] == 200
        assert (await caller.refusal())["code"] == "request_timeout"


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "line end"])
async def test_a_connection_without_a_request_is_closed(url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(ProblemProtocol, "HEAD_TIMEOUT_S", SOON_S)
    async with call(url) as caller:
        if sent:
            await caller.send(sent)
        await caller.ended()


@pytest.mark.parametrize(
    "request_", [LOGIN + b"content-length: 9\r\n\r\n{", CHUNKED + b"1\r\n{\r\n", CHUNKED + b"1;x"], ids=["length", "chunked", "chunk's head"]
)
async def test_a_body_without_progress_times_out(url: str, monkeypatch: pytest.MonkeyPatch, request_: bytes) -> None:
    monkeypatch.setattr(ProblemProtocol, "BODY_TIMEOUT_S", SOON_S)
    async with call(url) as caller:
        await caller.send(request_)
        assert (await caller.refusal())["code"] == "request_timeout"
    await assert_serves(url)


async def test_the_rest_of_a_body_that_is_answered_already_times_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProblemProtocol, "HEAD_TIMEOUT_S", SOON_S)
    async with call(url) as caller:
        await caller.send(LOGIN + b"content-length: 99999999999\r\n\r\n")
        assert (await caller.answer())[0] == 413
        await caller.send(b"x")
        await caller.ended()


async def test_a_refused_caller_that_stays_is_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProblemProtocol, "LINGER_S", SOON_S)
    async with call(url) as caller:
        await caller.send(b"no http\r\n\r\n")
        assert (await caller.refusal())["code"] == "malformed"
        with pytest.raises(anyio.BrokenResourceError):
            await caller.send_for_ever()
