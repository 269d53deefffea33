"""http for scripts: what they ask for is checked and made a call; what is answered says how its body is to be read."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from domain.authz import Capability
from domain.outbound import DEFAULT_REDIRECTS, DEFAULT_TIMEOUT_S, MAX_BODY_BYTES, MAX_REDIRECTS, MAX_TIMEOUT_S, CallFailed, HttpAnswer, HttpCall
from runtime.offloop import off_loop, weigh
from runtime.services import Access, Service
from runtime.version import read_version

MAX_HEADERS: Final = 100
MAX_HEADER_CHARS: Final = 32 * 1024

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OPTIONS: Final = frozenset({"headers", "timeout_ms", "follow_redirects", "max_redirects"})
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect"})
"""Headers that say how a message is carried: a script that could set them could make two messages of one."""
_TYPES: Final = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "raw": "application/octet-stream",
    "form": "application/x-www-form-urlencoded",
}
_NOT_A_BODY: Final = "http: body must be dict, list, str, bytes or None"


async def http_call(access: Access, method: object, url: object, kind: object, value: object, opts: object) -> dict[str, Any]:
    """`{status, headers, body (bytes), kind}` with the kind `json`, `text`, `raw` or `none`."""
    access.require("http", Capability.HTTP_CALL)
    client = access.resources.http
    if client is None:
        raise RuntimeError("http: outbound calls are not available here")
    body = await off_loop(weigh(value, MAX_BODY_BYTES), lambda: _body(kind, value))
    call = _call(access, method, url, None if body is None else (str(kind), body), opts)
    try:
        answer = await client.call(access.app_id, call)
    except CallFailed as error:
        raise RuntimeError(f"http: {error}") from error
    how = await off_loop(len(answer.body), lambda: _kind(answer))
    return {"status": answer.status, "headers": answer.headers, "body": answer.body, "kind": how}


def _call(access: Access, method: object, url: object, body: tuple[str, bytes] | None, opts: object) -> HttpCall:
    if not isinstance(url, str):
        raise TypeError(f"http: url must be str, not {type(url).__name__}")
    if not isinstance(method, str):
        raise TypeError(f"http: method must be str, not {type(method).__name__}")
    if method.upper() not in _METHODS:
        raise ValueError(f"http: method must be one of {', '.join(sorted(_METHODS))}")
    given = _options(opts)
    headers = {"user-agent": f"picloud/{read_version().product} (script:{access.script_id})"}
    if body is not None:
        headers["content-type"] = _TYPES[body[0]]
    if method.upper() != "GET":
        headers["idempotency-key"] = f"{access.execution_id}-{access.outside.number}"
    return HttpCall(
        method=method.upper(),
        url=url,
        headers={**headers, **_headers(given.get("headers"))},
        body=None if body is None else body[1],
        timeout_s=_number(given, "timeout_ms", 1, int(MAX_TIMEOUT_S * 1000), int(DEFAULT_TIMEOUT_S * 1000)) / 1000,
        max_redirects=_redirects(given),
    )


def _options(opts: object) -> dict[Any, Any]:
    if opts is None:
        return {}
    if not isinstance(opts, dict):
        raise TypeError(f"http: opts must be dict, not {type(opts).__name__}")
    for name in opts:
        if name not in _OPTIONS:
            raise ValueError(f"http: unknown option {str(name)[:80]!r}; there are {', '.join(sorted(_OPTIONS))}")
    return opts


def _number(opts: dict[Any, Any], name: str, least: int, most: int, default: int) -> int:
    value = opts.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"http: {name} must be int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"http: {name} must be within {least} and {most}")
    return value


def _redirects(opts: dict[Any, Any]) -> int | None:
    most = _number(opts, "max_redirects", 0, MAX_REDIRECTS, DEFAULT_REDIRECTS)
    follow = opts.get("follow_redirects")
    if follow is not None and not isinstance(follow, bool):
        raise TypeError(f"http: follow_redirects must be bool, not {type(follow).__name__}")
    return None if follow is False else most


def _headers(headers: object) -> dict[str, str]:
    """Names in lower case."""
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise TypeError(f"http: headers must be dict, not {type(headers).__name__}")
    if len(headers) > MAX_HEADERS or weigh(headers, MAX_HEADER_CHARS) > MAX_HEADER_CHARS:
        raise ValueError(f"http: at most {MAX_HEADERS} headers of {MAX_HEADER_CHARS} characters together")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"http: headers must map str to str, not {type(name).__name__} to {type(value).__name__}")
        checked[_header_name(name)] = _header_value(name, value)
    return checked


def _header_name(name: str) -> str:
    """A token (RFC 9110, 5.6.2) that is the script's to say."""
    if not name or not name.isascii() or not all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name):
        raise ValueError(f"http: {name[:80]!r} is not a header name")
    if name.lower() in _OURS:
        raise ValueError(f"http: the header {name} cannot be set")
    return name.lower()


def _header_value(name: str, value: str) -> str:
    if any(char != "\t" and not (" " <= char <= "~" or "\xa0" <= char <= "\xff") for char in value):
        raise ValueError(f"http: header {name} contains control characters, or ones beyond ISO 8859-1")
    return value.strip(" \t")


def _body(kind: object, value: object) -> bytes | None:
    """What goes over the wire."""
    match kind, value:
        case "none", None:
            return None
        case "form", None:
            return b""
        case "form", dict():
            return urlencode([_field(name, item) for name, item in value.items()]).encode()
        case "form", _:
            raise TypeError(f"http: body must be dict, not {type(value).__name__}")
        case "json", str(text) if text[:1] in {"{", "["}:
            return text.encode()
        case "text", str(text):
            return text.encode()
        case "raw", bytes(raw):
            return raw
        case _:
            raise TypeError(_NOT_A_BODY)


def _field(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str | int | float):
        raise TypeError("http: form fields must map str to str or numbers")
    return name, str(value)


def _kind(answer: HttpAnswer) -> str:
    if not answer.body:
        return "none"
    try:
        answer.body.decode()
    except UnicodeDecodeError:
        return "raw"
    said = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return "json" if said == "application/json" or said.endswith("+json") else "text"


HTTP: Final = Service(name="http", calls={"http_call": http_call}, slow=frozenset({"http_call"}), outside=frozenset({"http_call"}))
