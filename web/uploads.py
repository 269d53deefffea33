"""Uploads of files: `multipart/form-data`, stored while it comes, never held whole.

The part `file` is the file. `name` and `content_type` may stand beside it, before or after, and go before what the part's own headers say. Preamble
and epilogue are read over; everything but the file's bytes is bounded.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from litestar import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from domain.blobs import Blob
from domain.errors import Invalid, Malformed, TooLarge
from domain.files import check_content_type, check_name
from runtime.blobs import Blobs

MAX_OVERHEAD_BYTES: Final = 64 * 1024
"""What a body may have beside the file's own bytes."""
_MAX_TEXT_BYTES: Final = 4096
_MAX_PARTS: Final = 8
_MAX_ECHO_CHARS: Final = 100
_PATH: Final = re.compile(r"/api/v1/admin/apps/[^/]+/files/.+")
_METHODS: Final = frozenset({"POST", "PUT"})
_CHECKS: Final = {"name": check_name, "content_type": check_content_type}

Events = AsyncGenerator[MultipartSegment | bytes | None, None]
"""For each part its head, its bytes, and None."""


class Upload(msgspec.Struct, frozen=True):
    """A stored file, and what its form says of it."""

    blob: Blob
    name: str | None
    content_type: str | None


def is_upload(method: str, path: str) -> bool:
    """Whether a request of the control plane carries a file, so that another limit holds for its body."""
    return method in _METHODS and _PATH.fullmatch(path) is not None


async def read_upload(request: Request[Any, Any, Any], blobs: Blobs) -> Upload:
    """Read the form and store its file. Raises Malformed, Invalid, TooLarge, or Unavailable; bytes that were stored by then are swept later."""
    said: dict[str, str] = {}
    of_part: dict[str, str] = {}
    blob: Blob | None = None
    async with aclosing(_events(request, blobs.max_file_bytes)) as events:
        async for part in events:
            assert isinstance(part, MultipartSegment)
            field = part.name or ""
            if field in said or (field == "file" and blob is not None):
                raise Invalid(f"{field}: stands more than once", field=field)
            if field == "file":
                of_part = _said_of(part)
                blob = await blobs.save(_bytes(events))
            elif field in _CHECKS:
                said[field] = _CHECKS[field](await _text(events, field))
            else:
                raise Invalid(f"{field[:_MAX_ECHO_CHARS]}: unknown field; there are file, name and content_type", field=field[:_MAX_ECHO_CHARS])
    if blob is None:
        raise Invalid("file: is missing", field="file")
    return Upload(blob, said.get("name", of_part.get("name")), said.get("content_type", of_part.get("content_type")))


async def _events(request: Request[Any, Any, Any], max_file_bytes: int) -> Events:
    # Not strict: that refuses the line break behind the last boundary when it comes by itself.
    parser = PushMultipartParser(_boundary(request), max_segment_count=_MAX_PARTS)
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_file_bytes + MAX_OVERHEAD_BYTES:
                raise TooLarge(f"a file may have at most {max_file_bytes} bytes", max_file_bytes=max_file_bytes)
            for event in parser.parse(chunk):
                yield event
        parser.close()
    except MultipartError as error:
        raise Malformed(f"the body is not multipart/form-data as its header announces it ({error})") from None


def _boundary(request: Request[Any, Any, Any]) -> str:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary: str = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary or not boundary.isascii():
        raise Malformed("multipart/form-data with a boundary is expected", field="content-type")
    return boundary


def _said_of(part: MultipartSegment) -> dict[str, str]:
    """What the part's own headers say. Raises Invalid."""
    found = {"name": part.filename, "content_type": part.header("Content-Type")}
    return {field: _CHECKS[field](value) for field, value in found.items() if value}


async def _bytes(events: Events) -> AsyncIterator[bytes]:
    """The rest of the part that has begun."""
    async for event in events:
        if event is None:
            return
        assert isinstance(event, bytes)
        yield event


async def _text(events: Events, field: str) -> str:
    found = b""
    async for piece in _bytes(events):
        found += piece
        if len(found) > _MAX_TEXT_BYTES:
            raise Invalid(f"{field}: longer than {_MAX_TEXT_BYTES} bytes", field=field)
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{field}: not UTF-8", field=field) from None
