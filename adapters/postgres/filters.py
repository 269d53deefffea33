"""Reading a log through a filter: the SQL has a condition for each part of the filter that is there, so that each can use its index."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.statements import Statement

_SELECT: Final = """
SELECT position, originator_id, originator_version, topic, state, metadata::text AS metadata, recorded_at
FROM events
WHERE app_id = $1 AND position > $2"""
_CONDITIONS: Final = {
    "topics": "topic = ANY (${}::text[])",
    "stream": "originator_id = ${}",
    "actor": "coalesce(metadata ->> 'actor', 'system') = ${}",  # what is the default is not stored
    "correlation_id": "metadata ->> 'correlation_id' = ${}",
    "after_position": "position > ${}",
    "up_to_position": "position <= ${}",
}


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to read; None means any. Times bound `recorded_at` as [since, until)."""

    topics: tuple[str, ...] | None = None
    stream: str | None = None
    actor: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def filtered_read(app_id: UUID, after: int, limit: int, only: EventFilter, *, above: int | None, up_to: int | None) -> Statement:
    """Events after a position that pass the filter; its times are given as positions, because both grow together and positions have the index."""
    wanted: dict[str, Any] = {
        "topics": only.topics,
        "stream": only.stream,
        "actor": only.actor,
        "correlation_id": only.correlation_id,
        "after_position": above,
        "up_to_position": up_to,
    }
    conditions, args = [], [app_id, after]
    for name, value in wanted.items():
        if value is not None:
            args.append(list(value) if name == "topics" else value)
            conditions.append(_CONDITIONS[name].format(len(args)))
    args.append(limit)
    return Statement(" AND ".join([_SELECT, *conditions]) + f"\nORDER BY position\nLIMIT ${len(args)}", tuple(args))
