"""An event as people are shown it, in lists and live."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.events import Recorded


class EventMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Who and what caused an event. `causation` is the position of its cause in the same log."""

    actor: str
    correlation_id: UUID | None
    causation: int | None
    depth: int
    request_id: str | None
    unit_id: UUID
    execution_id: UUID | None
    script_id: UUID | None
    script_version: int | None


class EventItem(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its place in the log. `data` is the event itself."""

    position: int
    stream: str
    version: int
    topic: str
    data: msgspec.Raw
    metadata: EventMetadata
    recorded_at: datetime


def event_item(recorded: Recorded) -> EventItem:
    """An event as the API shows it."""
    metadata = recorded.metadata
    return EventItem(
        position=recorded.position,
        stream=recorded.stream,
        version=recorded.version,
        topic=recorded.event.TOPIC,
        data=msgspec.Raw(msgspec.json.encode(recorded.event)),
        metadata=EventMetadata(**msgspec.structs.asdict(metadata)),
        recorded_at=recorded.recorded_at,
    )
