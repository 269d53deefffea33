"""Paths: percent-encoding is undone segment by segment, so that `%2F` stays inside its segment.

Litestar is given the path still encoded (but for characters that never needed it); handlers decode the segments that may hold any text with `segment`.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes
from uuid import UUID

from domain.errors import Invalid, Malformed, NotFound
from domain.ids import parse_uuid

_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:@")
_BAD: Final = "the path is not percent-encoded UTF-8 without NUL"


def canonical_path(raw_path: bytes) -> str:
    """A request's path with only needless escapes undone (RFC 3986, 6.2.2.2). Raises Malformed for anything that is not percent-encoded UTF-8, and for NUL."""
    try:
        path = raw_path.decode("ascii")
        if "%" not in path and "\x00" not in path:
            return path
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed(_BAD) from None
    if "\x00" in decoded or _BAD_ESCAPE.search(path):
        raise Malformed(_BAD)
    return _ESCAPE.sub(_undo_needless, path)


def segment(text: str, field: str) -> str:
    """The text of one path segment as a handler gets it."""
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(f"{field}: not UTF-8", field=field) from None


def id_segment(text: str, what: str) -> UUID:
    """The id in a path segment; raises NotFound for what cannot be one (`what` is for people: `script`)."""
    found = parse_uuid(text)
    if found is None:
        raise NotFound(f"there is no such {what}")
    return found


def _undo_needless(escape: re.Match[str]) -> str:
    char = chr(int(escape[1], 16))
    return char if char in _PLAIN else escape[0].upper()
