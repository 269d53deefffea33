"""What of a request the data plane reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from domain.errors import Invalid, Malformed, TooLarge
from domain.hosts import normalise_host
from web.front import Receive, Scope
from web.security import header, without_session


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is, and ConnectionResetError when the caller goes before its end."""
    del scope
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the caller went before the end of the body")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"the body may have at most {max_bytes} bytes", max_body_bytes=max_bytes)
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def headers_for_script(scope: Scope, *, attached: bool) -> dict[str, str]:
    """Lower-case names, repeats joined by a comma, cookies by a semicolon.

    The platform's own credentials are the caller's secret, not the script's: the session cookie is taken out always, `Authorization` when it has
    attached a principal.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name == "cookie":
            value = without_session(value)
            if not value:
                continue
        elif name == "authorization" and attached:
            continue
        headers[name] = value if name not in headers else f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
    return headers


def host_of(scope: Mapping[str, Any]) -> str:
    """The canonical host that a request names. Raises Malformed."""
    value = header(scope, b"host")
    if value is None:
        raise Malformed("the request names no host", field="host")
    return _canonical_host(value)


def query_of(raw: bytes) -> dict[str, str]:
    """Of repeated keys the last wins. What is not UTF-8 or holds NUL is refused: nothing behind this could store it."""
    if not raw:
        return {}
    try:
        text = raw.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        raise Malformed("the query string is not percent-encoded UTF-8, or has more than 1000 fields", field="query") from None
    query = dict(pairs)
    if any("\x00" in key or "\x00" in value for key, value in query.items()):
        raise Malformed("the query string contains NUL", field="query")
    return query


@lru_cache(maxsize=256)
def _canonical_host(value: str) -> str:
    try:
        return normalise_host(value)
    except Invalid as error:
        raise Malformed(error.detail, field="host") from error
