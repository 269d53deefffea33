"""What of a request reaches a script."""

from __future__ import annotations

from domain.errors import TooLarge
from web.front import Receive, Scope
from web.security import without_session


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
