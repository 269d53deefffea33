"""Paths: request paths as decoded segments, and the patterns that routes are written in.

A path is split at `/` first and decoded after, so `%2F` stays inside one segment. `/` is one empty segment, and a trailing slash is an empty last segment:
`/a` and `/a/` are different paths.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NoReturn
from urllib.parse import unquote_to_bytes

import msgspec

from domain.errors import Invalid

PathKind = Literal["exact", "prefix", "param"]

MAX_PATH_BYTES: Final = 2048
MAX_SEGMENTS: Final = 64

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_PATH: Final = re.compile(r"[\x00-\x20\x7f?#]")
_PARAM_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_RESERVED: Final = frozenset({"admin", "healthz", "readyz", "version", "metrics"})
_RESERVED_FOLDERS: Final = frozenset({"api", "realtime"})


class PathPattern(msgspec.Struct, frozen=True):
    """A route's path, taken apart.

    `segments` are decoded literals, or None where a parameter stands; of a prefix, those before `/*`. `names` are the parameters by their index in `segments`.
    """

    segments: tuple[str | None, ...]
    names: tuple[tuple[int, str], ...] = ()

    @property
    def leading_literals(self) -> int:
        """How many segments stand before the first parameter: what decides between two patterns."""
        return self.names[0][0] if self.names else len(self.segments)


def split_path(raw: str | bytes) -> list[str]:
    """Decoded segments of a request's path as it was sent, without its query.

    Raises Invalid naming `path`: no leading slash, malformed percent-encoding, invalid UTF-8, NUL.
    """
    text = raw if isinstance(raw, str) else _utf8(raw)
    if not text.startswith("/"):
        _refuse("must start with '/'")
    segments = text[1:].split("/")
    if "%" in text or not text.isascii():
        segments = [_decode(segment) for segment in segments]
        text = "".join(segments)
    if "\x00" in text:
        _refuse("NUL characters are not accepted")
    return segments


def is_reserved(segments: list[str] | tuple[str | None, ...]) -> bool:
    """Whether the platform itself answers this path, so that no route may be written there and a catch-all route does not get it."""
    first = segments[0] if segments else None
    return first in _RESERVED or (first in _RESERVED_FOLDERS and len(segments) > 1)


def parse_path(kind: PathKind, path: str) -> PathPattern:
    """Take a route's path apart: `/a/b` (exact), `/a/*` (prefix) or `/a/:name` (param). Raises Invalid naming `path`."""
    if not path.startswith("/"):
        _refuse("must start with '/'")
    raw = path[1:].split("/")
    if kind == "prefix" and raw.pop() != "*":
        _refuse("a prefix ends in '/*', as in '/greet/*'")
    _check_raw(kind, raw)
    segments = tuple(None if segment.startswith(":") else _decode(segment) for segment in raw)
    _check_segments(segments, last_may_be_empty=kind != "prefix")
    if kind == "param" and None not in segments:
        _refuse("a param path has a ':name' segment; without one its path_kind is exact")
    return PathPattern(segments, tuple((index, _param_name(segment)) for index, segment in enumerate(raw) if segment.startswith(":")))


def check_path(pattern: PathPattern, kind: PathKind, path: str) -> None:
    """What a new route must keep to beyond its form: bounds, names of parameters, reserved places. Raises Invalid naming `path`."""
    if len(path.encode()) > MAX_PATH_BYTES or len(pattern.segments) > MAX_SEGMENTS:
        _refuse(f"at most {MAX_PATH_BYTES} bytes and {MAX_SEGMENTS} segments are accepted")
    names = [name for _, name in pattern.names]
    if len(set(names)) < len(names):
        _refuse("two parameters of one name")
    if is_reserved((*pattern.segments, *([None] if kind == "prefix" else []))):
        raise Invalid(f"path: {path} belongs to the platform", field="path", code="reserved_path")


def _check_raw(kind: PathKind, raw: list[str]) -> None:
    for segment in raw:
        if _NOT_IN_PATH.search(segment):
            _refuse("spaces, control characters, '?' and '#' must be percent-encoded")
        if "*" in segment:
            _refuse("'*' stands only alone at the end of a prefix; write %2A for the character")
        if segment.startswith(":") and kind != "param":
            _refuse("parameters belong to path_kind param; write %3A for the character")


def _check_segments(segments: tuple[str | None, ...], *, last_may_be_empty: bool) -> None:
    if any(segment in {".", ".."} for segment in segments):
        _refuse("'.' and '..' segments never arrive, clients resolve them")
    if any("\x00" in segment for segment in segments if segment):
        _refuse("NUL characters are not accepted")
    if "" in (segments[:-1] if last_may_be_empty else segments):
        _refuse("empty segments ('//') are not accepted")


def _param_name(segment: str) -> str:
    name = segment[1:]
    if _PARAM_NAME.fullmatch(name) is None:
        _refuse("a parameter is ':' and a name of 1 to 64 letters, digits, '_' and '-', not starting with a digit or '-'")
    return name


def _decode(segment: str) -> str:
    if _BAD_ESCAPE.search(segment):
        _refuse("malformed percent-encoding")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeError:
        _refuse("not valid UTF-8")


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeError:
        _refuse("not valid UTF-8")


def _refuse(why: str) -> NoReturn:
    raise Invalid(f"path: {why}", field="path")
