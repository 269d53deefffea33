"""Outbound calls: what goes over the wire, redirects, limits, and servers that do not mean well."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from uuid import UUID

import anyio
import pytest

import adapters.outbound.client
from adapters.outbound.client import Limits
from domain.outbound import MAX_BODY_BYTES, CallFailed
from tests.adapters.outbound_support import APP, Asked, Names, Observed, get, response, self_signed, serving

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def test_a_call_is_sent_as_it_was_given(observed: Observed) -> None:
    async with serving(response(b"hi", status=418, x_one="a", Content_Type="text/plain")) as server:
        call = get(f"{server.url}p%2Fq?a=1&b=%20#f", method="PATCH", headers={"x-a": "b", "user-agent": "u"}, body=b"data")
        answer = await observed.client.call(APP, call)
    assert (answer.status, answer.body, answer.headers["x-one"]) == (418, b"hi", "a")
    asked = server.asked[0]
    assert (asked.method, asked.target, asked.body) == ("PATCH", "/p%2Fq?a=1&b=%20", b"data")
    assert asked.headers == {"host": f"127.0.0.1:{server.port}", "accept": "*/*", "accept-encoding": "gzip, deflate"} | {
        "x-a": "b",
        "user-agent": "u",
        "content-length": "4",
        "connection": "close",
    }
    assert observed.outcomes == ["answered"]


async def test_repeated_headers_are_joined_and_odd_bytes_are_text(observed: Observed) -> None:
    raw = b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nB: \xc3\xa4\r\nC: \xe4\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\n\r\n"
    async with serving(raw) as server:
        for _ in range(2):
            answer = await observed.client.call(APP, get(server.url))
    assert answer.headers == {"a": "1, 2", "b": "ä", "c": "ä", "set-cookie": "s=1", "content-length": "0"}
    assert "cookie" not in server.asked[1].headers


async def test_the_environment_names_no_proxy(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    async with serving(response(b"direct")) as server:
        assert (await observed.client.call(APP, get(server.url))).body == b"direct"


# Redirects


def redirecting(status: int) -> Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status=status, location="/end?x") if asked.target == "/" else response(b"" if asked.method == "HEAD" else b"end"))

    return handle


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        *((status, "POST", "GET") for status in (301, 302, 303)),
        *((status, "POST", "POST") for status in (307, 308)),
        *((status, "PUT", "PUT") for status in (301, 302, 307, 308)),
        *((303, method, "GET") for method in ("PUT", "DELETE", "GET")),
        *((status, "HEAD", "HEAD") for status in (301, 302, 303, 307, 308)),
    ],
)
async def test_a_redirect_changes_the_method_as_the_rfc_says(observed: Observed, status: int, method: str, then: str) -> None:
    body = None if method in {"GET", "HEAD"} else b"data"
    async with serving(redirecting(status)) as server:
        await observed.client.call(APP, get(server.url, method=method, body=body, headers={"content-type": "a/b", "authorization": "x"}))
    last = server.asked[-1]
    assert (last.method, last.target) == (then, "/end?x")
    assert last.body == (body if then == method and body else b"")
    assert ("content-type" in last.headers) is (then == method)
    assert last.headers["authorization"] == "x"


async def test_credentials_do_not_travel_to_another_origin(observed: Observed) -> None:
    secret = {"authorization": "a", "cookie": "b", "proxy-authorization": "c", "x-api-key": "d", "x-kept": "e"}
    async with serving(response(b"end")) as other, serving(response(status=307, location=f"http://127.0.0.1:{other.port}/")) as server:
        await observed.client.call(APP, get(server.url, headers=secret))
    assert secret.items() <= server.asked[0].headers.items()
    assert set(secret) & set(other.asked[0].headers) == {"x-kept"}


async def test_redirects_are_counted_or_not_followed(observed: Observed) -> None:
    async with serving(response(b"again", status=302, location="/")) as server:
        with pytest.raises(CallFailed, match=r"^more than 3 redirects$"):
            await observed.client.call(APP, get(server.url, max_redirects=3))
        assert len(server.asked) == 4
        assert (await observed.client.call(APP, get(server.url, max_redirects=None))).status == 302
    assert observed.outcomes == ["redirects", "answered"]


# Sizes


@pytest.mark.parametrize("length", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
@pytest.mark.parametrize("is_said", [True, False])
async def test_an_answer_has_a_cap(observed: Observed, *, length: int, is_said: bool) -> None:
    async def handle(_: Asked, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\n{f'Content-Length: {length}' if is_said else 'Connection: close'}\r\n\r\n"
        writer.write(head.encode() + bytes(length))

    async with serving(handle) as server:
        if length <= MAX_BODY_BYTES:
            assert (await observed.client.call(APP, get(server.url))).body == bytes(length)
        else:
            with pytest.raises(CallFailed, match="larger than 10485760 bytes"):
                await observed.client.call(APP, get(server.url))


async def test_a_request_has_a_cap(observed: Observed) -> None:
    async with serving(response()) as server:
        await observed.client.call(APP, get(server.url, method="POST", body=bytes(MAX_BODY_BYTES)))
        assert len(server.asked[0].body) == MAX_BODY_BYTES
        with pytest.raises(CallFailed, match="larger than"):
            await observed.client.call(APP, get(server.url, method="POST", body=bytes(MAX_BODY_BYTES + 1)))
        assert len(server.asked) == 1


def deflated(data: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return packer.compress(data) + packer.flush()


TEXT = b"".join(b"%d " % number for number in range(100_000))
CODED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZIP ": gzip.compress(TEXT[:1000]) + gzip.compress(b"") + gzip.compress(TEXT[1000:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": deflated(TEXT, -15),
}


@pytest.mark.parametrize("coding", CODED)
async def test_codings_are_undone(observed: Observed, coding: str) -> None:
    async with serving(response(CODED[coding], Content_Encoding=coding)) as server:
        answer = await observed.client.call(APP, get(server.url))
    assert answer.body == TEXT
    assert not {"content-encoding", "content-length"} & answer.headers.keys()


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "identity", "x"])
async def test_other_codings_are_left_as_they_are(observed: Observed, coding: str) -> None:
    async with serving(response(CODED["gzip"], Content_Encoding=coding)) as server:
        answer = await observed.client.call(APP, get(server.url))
    assert (answer.body, answer.headers["content-encoding"]) == (CODED["gzip"], coding)


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 3 * MIB])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_full_piece_loses_nothing(observed: Observed, size: int, coding: str) -> None:
    packed = gzip.compress(bytes(size)) if coding == "gzip" else zlib.compress(bytes(size))
    async with serving(response(packed, Content_Encoding=coding)) as server:
        assert (await observed.client.call(APP, get(server.url))).body == bytes(size)


BOMBS = {
    "gzip": lambda: deflated(bytes(1024 * MIB // 4), 31),
    "deflate": lambda: deflated(bytes(1024 * MIB // 4), 15),
    "Deflate": lambda: deflated(bytes(1024 * MIB // 4), -15),
}


@pytest.mark.parametrize("coding", BOMBS)
async def test_a_bomb_is_left_before_it_goes_off(observed: Observed, coding: str) -> None:
    packed = BOMBS[coding]()
    assert len(packed) < MIB
    async with serving(response(packed, Content_Encoding=coding)) as server:
        with pytest.raises(CallFailed, match="larger than 10485760 bytes"):
            await observed.client.call(APP, get(server.url))


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (gzip.compress(TEXT)[:-1], "cut off"),
        (b"no gzip", "not compressed as it says"),
        (gzip.compress(b"x") + b"more", "not compressed as it says"),
        (gzip.compress(b"") * 3000, "something behind its end"),
    ],
    ids=["cut", "plain", "followed", "many"],
)
async def test_a_broken_coding_is_said(observed: Observed, packed: bytes, why: str) -> None:
    async with serving(response(packed, Content_Encoding="gzip")) as server:
        with pytest.raises(CallFailed, match=why):
            await observed.client.call(APP, get(server.url))


async def test_deflate_ends_where_it_ends(observed: Observed) -> None:
    async with serving(response(zlib.compress(b"x") * 2, Content_Encoding="deflate")) as server:
        with pytest.raises(CallFailed, match="something behind its end"):
            await observed.client.call(APP, get(server.url))


async def test_an_empty_answer_may_name_a_coding(observed: Observed) -> None:
    async with serving(response(Content_Encoding="gzip")) as server:
        assert (await observed.client.call(APP, get(server.url, method="HEAD"))).body == b""
        assert (await observed.client.call(APP, get(server.url))).body == b""


# Times


async def dripping(_: Asked, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever: no silence is long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def dripping_head(_: Asked, writer: asyncio.StreamWriter) -> None:
    """The same within the head."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def silent(asked: Asked, _: asyncio.StreamWriter) -> None:
    await asked.gone()


@pytest.mark.parametrize("handler", [dripping, dripping_head, silent], ids=lambda handler: handler.__name__)
async def test_all_of_a_call_has_a_time_limit(observed: Observed, handler: Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]) -> None:
    async with serving(handler) as server:
        began = perf_counter()
        with pytest.raises(CallFailed, match=r"^timed out$"):
            await observed.client.call(APP, get(server.url, timeout_s=0.3))
        assert 0.25 < perf_counter() - began < 3
    assert observed.outcomes == ["timed_out"]


async def test_redirects_do_not_renew_the_time_limit(observed: Observed) -> None:
    async def handle(_: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(response(status=302, location="/"))

    async with serving(handle) as server:
        with pytest.raises(CallFailed, match=r"^timed out$"):
            await observed.client.call(APP, get(server.url, timeout_s=0.35, max_redirects=20))
    assert len(server.asked) < 5


async def test_a_silent_server_has_a_limit_of_its_own(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.outbound.client, "READ_WITHIN_S", 0.2)
    async with serving(silent) as server:
        with pytest.raises(CallFailed, match=r"^timed out \(reading\)$"):
            await observed.client.call(APP, get(server.url))


async def test_a_lookup_that_takes_long_counts_as_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.outbound.client, "CONNECT_WITHIN_S", 0.2)

    async def never(*_: object) -> list[str]:
        await anyio.sleep_forever()
        return []

    with pytest.raises(CallFailed, match=r"^timed out \(connecting\)$"):
        await Observed(resolve=never).client.call(APP, get("http://a.test/"))


# Trouble


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "an odd status": b"HTTP/1.1 abc OK\r\n\r\n",
    "a long head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: x\r\n" * 100_000 + b"\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "an odd length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
    "an odd chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "an odd redirect": b"HTTP/1.1 302 OK\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 OK\r\nLocation: mailto:a@b\r\nContent-Length: 0\r\n\r\n",
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_is_an_error_and_no_address_is_named(observed: Observed, name: str) -> None:
    async with serving(GARBAGE[name]) as server:
        with pytest.raises(CallFailed) as failure:
            await observed.client.call(APP, get(server.url, timeout_s=3))
    assert "127.0.0.1" not in str(failure.value)
    assert str(server.port) not in str(failure.value)


async def test_who_is_not_there_is_said_without_an_address(observed: Observed) -> None:
    async with serving(response()) as server:
        pass
    with pytest.raises(CallFailed, match=r"^connection failed \(refused\)$"):
        await observed.client.call(APP, get(server.url))
    with pytest.raises(CallFailed, match=r"^connection failed \(there is no such host\)$"):
        await Observed(resolve=Names()).client.call(APP, get("http://nobody.test/"))


async def test_certificates_are_verified(certified: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    of_server, trusting = certified
    names = Names(localhost=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    async with serving(response(b"x"), tls=of_server) as server:
        url = f"https://localhost:{server.port}/"
        assert (await Observed(resolve=names, tls=trusting).client.call(APP, get(url))).body == b"x"
        for client, asked in ((Observed(resolve=names), url), (Observed(resolve=names, tls=trusting), f"https://other.test:{server.port}/")):
            with pytest.raises(CallFailed, match=r"^connection failed \(TLS\)$"):
                await client.client.call(APP, get(asked))


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of localhost serves with, and what a client who trusts it verifies with."""
    key, certificate = self_signed("localhost")
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(certificate)
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of_server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return of_server, ssl.create_default_context(cadata=certificate.decode())


# Places


async def test_an_app_has_so_many_calls_in_progress_and_the_others_wait() -> None:
    release, seen = anyio.Event(), anyio.Event()
    running = 0

    async def handle(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal running
        if asked.target != "/other":
            running += 1
            if running == 2:
                seen.set()
            await release.wait()
        writer.write(response())

    observed = Observed(limits=Limits(calls=3, calls_per_app=2))
    async with serving(handle) as server, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(observed.client.call, APP, get(server.url))
        await seen.wait()
        await observed.client.call(UUID(int=2), get(f"{server.url}other"))
        assert (running, observed.outcomes) == (2, ["answered"])
        with pytest.raises(CallFailed, match="timed out"):
            await observed.client.call(APP, get(server.url, timeout_s=0.05))
        release.set()
    assert observed.outcomes.count("answered") == 6


async def test_a_cancelled_call_gives_its_place_back() -> None:
    async with serving(silent) as server:
        client = Observed(limits=Limits(calls=1, calls_per_app=1))
        with anyio.move_on_after(0.1):
            await client.client.call(APP, get(server.url))
    async with serving(response(b"x")) as server:
        assert (await client.client.call(APP, get(server.url))).body == b"x"
    assert client.outcomes == ["cancelled", "answered"]


@pytest.fixture
def observed() -> Observed:
    return Observed()
