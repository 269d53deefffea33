"""Names of streams and identifiers.

A stream name is `kind:part:part`; each part is percent-encoded for `%` and `:` alone, so that splitting at `:` is unambiguous and the names stay readable.
"""

from __future__ import annotations

from typing import Final, NewType
from uuid import UUID

AppId = NewType("AppId", UUID)
Position = NewType("Position", int)

NIL_APP: Final = AppId(UUID(int=0))
"""The instance's own log: users, apps, slugs, domains, members, keys."""


def stream(kind: str, *parts: object) -> str:
    """Name a stream, e.g. `stream("kv", "a:b", "k") == "kv:a%3Ab:k"`."""
    return ":".join((kind, *(str(part).replace("%", "%25").replace(":", "%3A") for part in parts)))


def stream_parts(name: str) -> tuple[str, ...]:
    """Split a stream name into its kind and decoded parts; the inverse of `stream`."""
    return tuple(part.replace("%3A", ":").replace("%25", "%") for part in name.split(":"))


def parse_uuid(text: str) -> UUID | None:
    """Read a canonical UUID (36 characters, as PiCloud prints them); None when it is not one."""
    if len(text) != 36:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None
