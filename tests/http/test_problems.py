from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest

from domain import errors
from domain.errors import PiCloudError
from tests.http.conftest import MAX_BODY_BYTES, OWNER
from web.problems import problem, status_of, translate

pytestmark = pytest.mark.anyio

LOGIN = "/api/v1/admin/auth/login"
ME = "/api/v1/admin/auth/me"
HIDDEN = "a detail for nobody"
BAD_BODIES: list[tuple[bytes, int, str | None]] = [
    (b"", 400, None),
    (b"{", 400, None),
    (b"username=owner", 400, None),
    (b'{"username": NaN}', 400, None),
    (b'{"username": "\xff"}', 400, None),
    (b'{"username": "\\ud800", "password": "x"}', 400, None),
    (b'{"username": "a", "password": "b"} {}', 400, None),
    (b"[]", 422, "$"),
    (b"null", 422, "$"),
    (b"{}", 422, "$.username"),
    (b'{"username": "a"}', 422, "$.password"),
    (b'{"username": 1, "password": "x"}', 422, "$.username"),
    (b'{"username": "", "password": "x"}', 422, "$.username"),
    (b'{"username": "%b", "password": "x"}' % (b"a" * 65), 422, "$.username"),
    (b'{"username": "a", "password": ["x"]}', 422, "$.password"),
    (b'{"username": "a", "password": "%b"}' % (b"x" * 1025), 422, "$.password"),
    (b'{"username": "a", "password": "x", "remember": true}', 422, "$.remember"),
    (b'{"username": "a\\u0000", "password": "x"}', 422, "$.username"),
    (b'{"username": "a", "password": "x\\u0000"}', 422, "$.password"),
    (b'{"\\u0000": "a"}', 422, "$"),
    (b'{"username": %b1%b}' % (b"[" * 65, b"]" * 65), 422, "$.username"),
    (b"[" * 8000, 422, "$"),
]
HARDLY_HTTP: list[tuple[bytes, int, str]] = [
    (b"GET /%00 HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /api/%00 HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /%ff HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /%ed%a0%80 HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /%zz HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400, "malformed"),
    (b"GET %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n" % ME.encode(), 400, "malformed"),
    (b"GET %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \r\n\r\n" % ME.encode(), 401, "unauthenticated"),
    (b"GET %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\r\n\r\n" % ME.encode(), 401, "unauthenticated"),
    (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n" % LOGIN.encode(), 413, "too_large"),
    (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n" % LOGIN.encode(), 400, "malformed"),
    (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n" % LOGIN.encode(), 400, "malformed"),
    (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}" % LOGIN.encode(), 400, "malformed"),
    (b"FOO /healthz HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed"),
    (b"GET /healthz HTTP/1.1\r\nbad header\r\n\r\n", 400, "malformed"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
]


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["code"], document.get("field")) == (status, code, field)
    assert set(document) >= {"type", "title", "status", "code", "detail"}
    return document


async def talk(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are, for what httpx refuses to send; the first answer's status, headers and body."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(request)
        received = b""
        with anyio.fail_after(5):
            while b"\r\n\r\n" not in received:
                received += await stream.receive()
            head, _, body = received.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            while len(body) < int(headers["content-length"]):
                body += await stream.receive()
    return int(lines[0].split(" ")[1]), headers, body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Malformed(), 400),
        (errors.Unauthenticated(), 401),
        (errors.Forbidden(), 403),
        (errors.NotFound(), 404),
        (errors.Conflict(), 409),
        (errors.AlreadyExists(), 409),
        (errors.ReadConflict(), 409),
        (errors.FenceLost(), 409),
        (errors.LogClosed(), 409),
        (errors.TooLarge(), 413),
        (errors.Invalid(), 422),
        (errors.ScriptInvalid(), 422),
        (errors.Throttled(retry_after_s=1), 429),
        (errors.ScriptRaised(), 502),
        (errors.Overloaded(retry_after_s=1), 503),
        (errors.Contention(retry_after_s=1), 503),
        (errors.Unavailable(retry_after_s=1), 503),
        (errors.ScriptTimedOut(), 504),
        (errors.BudgetExceeded(), 507),
        (errors.OutcomeUnknown(), 500),
        (PiCloudError(), 500),
    ],
)
def test_every_error_has_its_status(error: PiCloudError, status: int) -> None:
    assert status_of(error) == status
    answered, headers, body = problem(error)
    document = json.loads(body)
    assert answered == document["status"] == status
    assert document["code"] == error.code
    assert (b"content-length", str(len(body)).encode()) in headers
    assert (b"retry-after", b"1") in headers or not isinstance(error, errors.Throttled)


def test_a_document_names_the_field_and_carries_more_but_its_members_stand() -> None:
    error = errors.Conflict("taken", code="duplicate_name", field="name", script_id="1", status=200, type="x")
    assert json.loads(problem(error)[2]) == {
        "type": "urn:picloud:problem:duplicate_name",
        "title": "Conflict",
        "status": 409,
        "code": "duplicate_name",
        "detail": "taken",
        "field": "name",
        "script_id": "1",
    }


def test_waits_are_rounded_up_to_whole_seconds() -> None:
    for wait_s, said in ((0.0, b"1"), (0.2, b"1"), (1.01, b"2"), (60, b"60")):
        assert (b"retry-after", said) in problem(errors.Throttled(retry_after_s=wait_s))[1]


def test_what_utf8_cannot_carry_is_shown_as_well_as_can_be() -> None:
    _, _, body = problem(errors.Invalid("no \ud800 here", field="\udfff"))
    assert json.loads(body)["detail"] == "no ? here"


def test_the_unforeseen_tells_nothing_but_the_requests_id() -> None:
    _, _, body = problem(translate(RuntimeError(HIDDEN), "r-1"))
    assert HIDDEN.encode() not in body
    assert json.loads(body)["code"] == "internal"
    assert json.loads(body)["request_id"] == "r-1"


async def test_bad_bodies_name_what_is_wrong(anonymous: httpx.AsyncClient) -> None:
    for body, status, field in BAD_BODIES:
        answer = await anonymous.post(LOGIN, content=body, headers={"content-type": "application/json"})
        assert_problem(answer, status, "malformed" if status == 400 else "invalid", field)


async def test_long_names_are_not_echoed(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.post(LOGIN, json={"x" * 10_000: 1, "username": "a", "password": "b"})
    assert answer.status_code == 422
    assert len(answer.content) < 1000


async def test_bodies_over_the_limit_are_413(anonymous: httpx.AsyncClient) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 1024

    small = json.dumps(OWNER).encode()
    assert_problem(await anonymous.post(LOGIN, content=small + b" " * 20_000), 413, "too_large")
    assert_problem(await anonymous.post(LOGIN, content=small + b" " * MAX_BODY_BYTES), 413, "too_large")
    assert_problem(await anonymous.post(LOGIN, content=chunks()), 413, "too_large")
    assert_problem(await anonymous.post("/anything", content=b" " * (MAX_BODY_BYTES + 1)), 413, "too_large")
    assert (await anonymous.post(LOGIN, content=small)).status_code == 200


async def test_other_paths_of_the_api_are_404(anonymous: httpx.AsyncClient) -> None:
    for path in ("/api/", "/api/v1", "/api/v1/admin", "/api/v1/admin/nothing", "/api/v2/admin/auth/me", "/api/v1/admin/auth/me/more", "/api/%2e%2e/healthz"):
        assert_problem(await anonymous.get(path), 404, "not_found")
    assert_problem(await anonymous.post("/api/nothing", content=b"{"), 404, "not_found")


async def test_other_methods_are_405_and_say_which_are_allowed(anonymous: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("GET", LOGIN, "POST"),
        ("DELETE", ME, "GET"),
        ("PROPFIND", ME, "GET"),
        ("POST", "/healthz", "GET"),
        ("TRACE", LOGIN, "POST"),
    ):
        answer = await anonymous.request(method, path)
        assert_problem(answer, 405, "method_not_allowed")
        assert allowed in answer.headers["allow"]


async def test_head_is_get_without_its_body(owner: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/version", ME):
        got, asked = await owner.get(path), await owner.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == got.headers["content-length"]
    answer = await owner.head("/api/nothing")
    assert (answer.status_code, answer.content) == (404, b"")


async def test_options_says_what_is_allowed(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.options(LOGIN)
    assert answer.status_code == 204
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"OPTIONS", "POST"}


async def test_a_sane_request_id_is_echoed_and_another_is_replaced(anonymous: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/api/nothing", "/nowhere"):
        assert (await anonymous.get(path, headers={"x-request-id": "abc-1.2_3"})).headers["x-request-id"] == "abc-1.2_3"
        made = {(await anonymous.get(path)).headers["x-request-id"] for _ in range(2)}
        assert len(made) == 2
        for insane in ("", "a b", "x" * 129, "<script>", "a\tb"):
            answer = await anonymous.get(path, headers={"x-request-id": insane})
            assert answer.headers["x-request-id"] != insane
            assert len(answer.headers.get_list("x-request-id")) == 1


async def test_what_is_hardly_http_gets_a_problem_too(url: str, anonymous: httpx.AsyncClient) -> None:
    for request, status, code in HARDLY_HTTP:
        answered, headers, body = await talk(url, request)
        document = json.loads(body)
        assert (answered, document["status"], document["code"]) == (status, status, code), request
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"]
        assert (await anonymous.get("/healthz")).status_code == 200, "the next request is served"


async def test_slashes_that_are_encoded_stay_in_their_segment(anonymous: httpx.AsyncClient) -> None:
    assert_problem(await anonymous.get("/api/v1/admin/auth%2Fme"), 404, "not_found")
    assert_problem(await anonymous.get("/api/v1/admin/%61uth/me"), 401, "unauthenticated")
