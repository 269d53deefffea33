"""Redirects as RFC 9110 (15.4) has them, without letting credentials travel to another origin."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import ClientResponse
from yarl import URL

from domain.executions import without_credentials
from domain.outbound import CallFailed, HttpCall

_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_ABOUT_BODY: Final = frozenset({"content-type", "content-encoding", "content-language", "content-location", "idempotency-key"})


def following(call: HttpCall, url: URL, response: ClientResponse) -> HttpCall | None:
    """The call that a redirect asks for; None for any other answer."""
    location = response.headers.get("location")
    if response.status not in _STATUSES or location is None:
        return None
    try:
        target = url.join(URL(location))
    except ValueError:
        raise CallFailed("malformed", "a redirect leads to something that is not a URL") from None
    method, body, headers = call.method, call.body, call.headers
    if _becomes_get(response.status, method):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name not in _ABOUT_BODY}
    if not _same_origin(target, url):
        headers = without_credentials(headers)
    return msgspec.structs.replace(call, url=str(target), method=method, body=body, headers=headers)


def _becomes_get(status: int, method: str) -> bool:
    """303 asks for it, 301 and 302 allow it for POST, and everybody does so."""
    return (status == 303 and method not in {"GET", "HEAD"}) or (status in {301, 302} and method == "POST")


def _same_origin(one: URL, other: URL) -> bool:
    try:
        return one.origin() == other.origin()
    except ValueError:  # no origin at all: policy refuses it next
        return False
