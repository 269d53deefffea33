"""Downloads of files: whole or one range of bytes (RFC 9110, 14), with the checksum as entity tag, and headers that make a browser only ever save them.

A file is whatever somebody uploaded, a page with scripts perhaps, and it comes from the origin where admins are logged in: so it is an attachment, of exactly
the type that it was given, in a sandbox without an origin should a browser show it anyway.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

import anyio
from litestar.types import Receive, Scope, Send

from projections.files.reads import FileMeta
from web.documented import Answer
from web.problems import RangeNotSatisfiable
from web.requests import is_head
from web.security import header

_RANGE: Final = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
_NOT_PLAIN: Final = re.compile(r"[^ !#-\[\]-~]|%")

_CACHING: Final = {"etag": "The SHA-256 of all the bytes.", "cache-control": "`private, no-cache`.", "accept-ranges": "`bytes`."}
DOWNLOADS: Final = {
    200: Answer(description="All the bytes, of the type that the file was given.", media_type="*/*", headers=_CACHING),
    206: Answer(description="Those that were asked for.", media_type="*/*", headers=_CACHING | {"content-range": "Which they are."}),
    304: Answer(description="The caller has them.", headers=_CACHING),
}
CONDITIONS: Final = {
    "range": "One range of bytes.",
    "if-range": "The range only of these bytes, by their tag.",
    "if-none-match": "The tags that the caller has.",
}

Content = Callable[[int, int], AsyncGenerator[bytes, None]]
"""`content(start, stop)`: bytes of the file, in pieces."""


class Download:
    """The answer, as an ASGI app. Raises RangeNotSatisfiable when it is called, and what reading raises, before anything is sent if it can be known then."""

    def __init__(self, meta: FileMeta, content: Content) -> None:
        self._meta = meta
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        tag = f'"{self._meta.checksum}"'
        if _matches(header(scope, b"if-none-match"), tag):
            await send({"type": "http.response.start", "status": 304, "headers": _encoded(_caching(tag))})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        wanted = _wanted(scope, tag, self._meta.size)
        start, stop = wanted or (0, self._meta.size)
        headers = _encoded(_caching(tag) | _headers(self._meta) | {"content-length": str(stop - start)})
        if wanted is not None:
            headers.append((b"content-range", f"bytes {start}-{stop - 1}/{self._meta.size}".encode()))
        head: Any = {"type": "http.response.start", "status": 200 if wanted is None else 206, "headers": headers}
        if is_head(scope):
            await send(head)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        async with aclosing(self._content(start, stop)) as pieces:
            await _send(head, pieces, receive, send)


async def _send(head: Any, pieces: AsyncGenerator[bytes, None], receive: Receive, send: Send) -> None:
    """Nothing is sent before the first piece is there; a caller who has gone is read no further for."""
    first = await anext(pieces, b"")
    await send(head)
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async for piece in pieces:
        if await _has_gone(receive):
            return
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _has_gone(receive: Receive) -> bool:
    """Whether the caller has disconnected by now."""
    with anyio.move_on_after(0):
        return (await receive())["type"] == "http.disconnect"
    return False


def _wanted(scope: Scope, tag: str, size: int) -> tuple[int, int] | None:
    """The range that is asked for, its end exclusive; None for the whole, also for headers that need not be understood. Raises RangeNotSatisfiable."""
    text = header(scope, b"range")
    found = None if text is None else _RANGE.fullmatch(text)
    condition = header(scope, b"if-range")
    if found is None or (condition is not None and condition.strip() != tag):
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), size if last is None else min(size, int(last) + 1)
        if last is not None and int(last) < int(first):
            return None
    if start >= stop:
        raise RangeNotSatisfiable(f"the file has {size} bytes", size=size)
    return start, stop


def _matches(tags: str | None, tag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    return tags is not None and (tags.strip() == "*" or tag in _TAG.findall(tags))


def _caching(tag: str) -> dict[str, str]:
    return {"etag": tag, "cache-control": "private, no-cache", "accept-ranges": "bytes"}


def _headers(meta: FileMeta) -> dict[str, str]:
    return {
        "content-type": meta.content_type,
        "content-disposition": disposition(meta.name),
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cross-origin-resource-policy": "same-origin",
    }


def disposition(name: str) -> str:
    """An attachment by its name (RFC 6266): in ASCII for those who know no better, and as RFC 8187 has it (it took the place of 5987) when that is another."""
    plain = _NOT_PLAIN.sub("_", name)
    shown = f'attachment; filename="{plain}"'
    return shown if plain == name else f"{shown}; filename*=UTF-8''{quote(name, safe='')}"


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
