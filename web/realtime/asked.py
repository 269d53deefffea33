"""What a subscriber asks for: path, filter, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.cursors import parse_position
from domain.errors import Invalid, NotFound
from domain.topics import TopicKind, check_name
from runtime.live.channel import Key
from runtime.live.documents import canonical_filter
from web.paths import segment
from web.security import header

PREFIX: Final = "/realtime/"

_KINDS: Final[Mapping[str, TopicKind]] = {
    "topics": "topic",
    "kv": "kv",
    "docs": "docs",
}


def key_of(path: str, query: Mapping[str, str]) -> Key:
    """What a path below `/realtime/` names, and of documents `?filter=`. Raises NotFound, or Invalid for a bad filter."""
    place, _, name = path.removeprefix(PREFIX).partition("/")
    kind = _KINDS.get(place)
    if kind is None or "/" in name:
        raise NotFound("there is nothing to follow here", code="no_route")
    try:
        checked = check_name(kind, segment(name, "name"))
    except Invalid:
        raise missing() from None
    return Key(kind, checked, canonical_filter(query["filter"]) if kind == "docs" and query.get("filter") else "")


def missing() -> NotFound:
    """What does not exist, is internal, or is not registered: nobody is told which."""
    return NotFound("there is no such topic", code="topic_not_found")


def position_of(scope: Mapping[str, Any], after: str | None) -> int | None:
    """Up to where the subscriber has everything: `Last-Event-ID`, which a browser sends when it reconnects, before `?after=`. Raises Invalid."""
    last = header(scope, b"last-event-id")
    if last:
        return parse_position(last, "last-event-id")
    return None if after is None else parse_position(after, "after")
