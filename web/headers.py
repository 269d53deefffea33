"""The headers that PiCloud adds to every answer, by path in one table, and those that handlers ask for on the way.

What answers of apps say of content security is theirs: their pages are. A page of an app is kept away from the admin API by the host (`web.security`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Headers = tuple[tuple[bytes, bytes], ...]

_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
API: Final[Headers] = (
    _NOSNIFF,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Of the API: JSON for programs, about whoever asks. What a direct run answers is a script's, but on the instance's own host (see `own_origin`)."""
DASHBOARD: Final[Headers] = (
    _NOSNIFF,
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src 'self' data:; object-src 'none'"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of what is served under `/admin`: pages whose code is all their own."""
APPS: Final[Headers] = (_NOSNIFF,)
"""Of apps."""

_ALSO: Final = "also"
_OWNS_CORS: Final = "owns_cors"
_OWNS_ORIGIN: Final = "owns_origin"
_CORS: Final = b"access-control-"
_OF_ORIGIN: Final = frozenset(
    {b"alt-svc", b"clear-site-data", b"nel", b"report-to", b"reporting-endpoints", b"service-worker-allowed", b"set-cookie", b"strict-transport-security"}
)
"""What an answer says of its whole origin, not of itself."""


def protecting(path: str, *, controls: bool) -> Headers:
    """The headers for a path; what an answer says itself goes before them."""
    if path.startswith("/admin") and path[6:7] in {"", "/"}:
        return DASHBOARD
    return API if controls or path.startswith("/api/") else APPS


def also(scope: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> None:
    """Let the answer, whatever it is, have these headers too."""
    scope["state"].setdefault(_ALSO, []).extend(headers)


def own_cors(scope: Mapping[str, Any]) -> None:
    """Let what the app's settings say of CORS go before what its script says: a browser refuses an answer that says both."""
    scope["state"][_OWNS_CORS] = True


def own_origin(scope: Mapping[str, Any]) -> None:
    """Let an answer that a script has made, on what may be the instance's own host, say nothing of this origin, nor against our headers."""
    scope["state"][_OWNS_ORIGIN] = True


def settled(scope: Mapping[str, Any], given: Iterable[tuple[bytes, bytes]], protects: Headers) -> list[tuple[bytes, bytes]]:
    """An answer's headers, completed."""
    state = scope["state"]
    owns_origin = state.get(_OWNS_ORIGIN, False)
    ours = {b"x-request-id"}
    if owns_origin:
        ours.update(_OF_ORIGIN, (name for name, _ in protects))
    replaces_cors = owns_origin or state.get(_OWNS_CORS, False)
    headers = [(b"x-request-id", state["request_id"].encode())]
    said: set[bytes] = set()
    for name, value in given:
        lowered = name.lower()
        if lowered not in ours and not (replaces_cors and lowered.startswith(_CORS)):
            headers.append((name, value))
            said.add(lowered)
    headers += [pair for pair in protects if pair[0] not in said]
    headers += state.get(_ALSO, ())
    return headers
