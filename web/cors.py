"""CORS as an app's settings have it: preflights are answered here, and answers to pages of other origins say what these may read.

The admin API has none. It is for pages of its own origin, and for programs, which do not ask.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from domain.cors import ANY, Cors
from web.front import Scope, Send
from web.headers import Headers, also, own_cors
from web.security import header

_VARY: Final = (b"vary", b"origin")
_VARY_PREFLIGHT: Final = (b"vary", b"origin, access-control-request-method, access-control-request-headers")
_MAX_ASKED_CHARS: Final = 4096


class _Policy(msgspec.Struct, frozen=True):
    """Settings as the headers that they become; `origins` None: any."""

    origins: frozenset[str] | None
    answer: Headers
    preflight: Headers
    mirrors: bool


async def answer_cors(scope: Scope, send: Send, cors: Cors) -> bool:
    """Note what the answer says of CORS. Whether the request was a preflight: it is answered then, and is nobody else's affair."""
    policy = _policy(cors)
    own_cors(scope)
    origin = header(scope, b"origin")
    is_preflight = scope["method"] == "OPTIONS" and origin is not None and header(scope, b"access-control-request-method") is not None
    if policy.origins is not None:
        also(scope, _VARY_PREFLIGHT if is_preflight else _VARY)
    if origin is not None and (policy.origins is None or origin in policy.origins):
        also(scope, (b"access-control-allow-origin", b"*" if policy.origins is None else origin.encode("latin-1")))
        also(scope, *(policy.preflight if is_preflight else policy.answer))
        if is_preflight and policy.mirrors:
            also(scope, *_asked(scope))
    if is_preflight:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    return is_preflight


@lru_cache(maxsize=256)
def _policy(cors: Cors) -> _Policy:
    credentials = ((b"access-control-allow-credentials", b"true"),) if cors.credentials else ()
    expose = ((b"access-control-expose-headers", _joined(cors.expose)),) if cors.expose else ()
    mirrors = ANY in cors.headers
    names = () if mirrors or not cors.headers else ((b"access-control-allow-headers", _joined(cors.headers)),)
    methods = ((b"access-control-allow-methods", _joined(cors.methods)),) if cors.methods else ()
    return _Policy(
        origins=None if ANY in cors.origins else frozenset(cors.origins),
        answer=(*credentials, *expose),
        preflight=(*credentials, *methods, *names, (b"access-control-max-age", b"%d" % cors.max_age_s)),
        mirrors=mirrors,
    )


def _asked(scope: Scope) -> Headers:
    """All headers that are asked for. By name, because `*` does not stand for `authorization`, nor for anything where there are cookies."""
    asked = header(scope, b"access-control-request-headers")
    if not asked or len(asked) > _MAX_ASKED_CHARS:
        return ()
    return ((b"access-control-allow-headers", asked.encode("latin-1")),)


def _joined(names: tuple[str, ...]) -> bytes:
    return ", ".join(names).encode()
