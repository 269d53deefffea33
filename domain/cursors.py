"""What list calls take in their query strings: opaque cursors, limits, positions, times. All of it is untrusted; refusals are Invalid and name the field.

A cursor is base64url of a JSON array: its kind, then the key of the last item of the page. It is not signed, so it grants nothing: it says only where to go on
within a list that the caller was allowed to read anyway.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec

from domain.errors import Invalid
from domain.values import check_json

MAX_CURSOR_CHARS: Final = 8192
MAX_POSITION: Final = 2**63 - 1
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

_FIELD: Final = "cursor"
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_RFC3339: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})")


def encode(kind: str, *parts: object) -> str:
    """Write a cursor. Parts are JSON values, UUIDs or aware datetimes; raises Invalid when they are too long for a query string."""
    text = urlsafe_b64encode(msgspec.json.encode((kind, *parts))).decode().rstrip("=")
    if len(text) > MAX_CURSOR_CHARS:
        _refuse(_FIELD, "the key of this page's last item is too long to go on from")
    return text


def decode(text: str, kind: str, types: tuple[Any, ...]) -> tuple[Any, ...]:
    """Read the parts of a cursor of this kind, of these types (as msgspec reads them; `Any` is any JSON value). Raises Invalid naming `cursor`."""
    if len(text) > MAX_CURSOR_CHARS or _BASE64URL.fullmatch(text) is None:
        _refuse(_FIELD, "not a cursor")
    try:
        found, *parts = _decoder(types).decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):  # base64, UTF-8, JSON and types alike
        _refuse(_FIELD, "not a cursor of this list")
    if found != kind:
        _refuse(_FIELD, f"a cursor of another list than {kind}")
    for part in parts:
        _check_part(part)
    return tuple(parts)


def parse_limit(text: str | None, *, default: int = DEFAULT_LIMIT, maximum: int = MAX_LIMIT, field: str = "limit") -> int:
    """Read a page size, 1 to `maximum`; `default` when it is not given."""
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= maximum:
        _refuse(field, f"expected a whole number from 1 to {maximum}")
    return int(text)


def parse_position(text: str, field: str) -> int:
    """Read a position in a log, 0 to 2^63 - 1 (0 is before the first event)."""
    if _NUMBER.fullmatch(text) is None or int(text) > MAX_POSITION:
        _refuse(field, f"expected a whole number from 0 to {MAX_POSITION}")
    return int(text)


def parse_time(text: str, field: str) -> datetime:
    """Read an RFC 3339 time, zone included, as an aware UTC datetime; finer than microseconds is cut off."""
    parts = _RFC3339.fullmatch(text)
    if parts is None:
        # A '+' that was not percent-encoded arrives as a space: the commonest way to get this wrong.
        _refuse(field, "expected an RFC 3339 time with its zone, as in 2026-01-31T12:00:00Z (write a '+' as %2B)")
    date, time, fraction, zone = parts.groups()
    try:
        return datetime.fromisoformat(f"{date}T{time}{(fraction or '.0')[:7].ljust(7, '0')}{zone.upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        _refuse(field, "no such time")


def parse_day(text: str, field: str) -> date:
    """Read a day as YYYY-MM-DD."""
    if _DAY.fullmatch(text) is None:
        _refuse(field, "expected a day, as in 2026-01-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        _refuse(field, "no such day")


def parse_at(text: str, field: str = "at") -> int | datetime:
    """Read a point in a log's history: a position, or an RFC 3339 time with its zone."""
    return parse_position(text, field) if text.isdigit() else parse_time(text, field)


@lru_cache(maxsize=64)
def _decoder(types: tuple[Any, ...]) -> msgspec.json.Decoder[tuple[Any, ...]]:
    array: Any = tuple
    return msgspec.json.Decoder(array[(str, *types)])


def _check_part(part: object) -> None:
    """Nothing may come back that PostgreSQL would choke on: NUL, surrogates, whole numbers beyond bigint, times without a zone."""
    if isinstance(part, int) and not -MAX_POSITION - 1 <= part <= MAX_POSITION:
        _refuse(_FIELD, "a number in it is out of range")
    if isinstance(part, datetime) and part.tzinfo is None:
        _refuse(_FIELD, "a time in it has no zone")
    if isinstance(part, str | float | list | dict):
        check_json(part, _FIELD)


def _refuse(field: str, why: str) -> NoReturn:
    raise Invalid(f"{field}: {why}", field=field)
